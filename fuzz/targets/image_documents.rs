//! What a registry answers: manifests, indexes and image configs.
#![no_main]

use helix_image::ImageConfig;
use helix_image::manifest::{Document, Platform};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Document::parse(bytes) {
        Ok(document @ Document::Manifest(_)) => {
            let Document::Manifest(manifest) = &document else {
                return;
            };
            let _ = (manifest.check_limits(), manifest.layer_bytes());
            let again = serde_json::to_vec(manifest).expect("a manifest is JSON");
            assert_eq!(Document::parse(&again).ok(), Some(document));
        }
        Ok(Document::Index(index)) => {
            let _ = (index.select(&Platform::current()), index.platforms());
        }
        Err(_) => {}
    }
    if let Ok(config) = serde_json::from_slice::<ImageConfig>(bytes) {
        let _ = (config.argv(), config.tcp_ports());
        let again = serde_json::to_vec(&config).expect("a config is JSON");
        assert_eq!(serde_json::from_slice::<ImageConfig>(&again).ok(), Some(config));
    }
});
