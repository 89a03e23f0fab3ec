//! A file of logins as `docker login` writes it, from whoever's machine.
#![no_main]

use helix_image::docker_config::DockerConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = DockerConfig::parse(bytes) {
        let _ = (config.kept("docker.io"), config.kept("ghcr.io"));
    }
});
