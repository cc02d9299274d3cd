# preload: import ray
import ray

if __name__ == "__main__":
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 << 20,
    )

    @ray.remote
    def square(x):
        return x * x

    print(ray.get([square.remote(i) for i in range(4)]))
    print(ray.get(ray.put(list(range(5)))))
    ray.shutdown()
