import hydra
from omegaconf import OmegaConf


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config):
    print(OmegaConf.to_container(config), flush=True)
    return config.x


if __name__ == "__main__":
    main()
