import multiprocessing


def square(x):
    if x < 0:
        return 0
    return x * x


if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=square, args=(3,))
    process.start()
    process.join()
    print(square(2), process.exitcode)
