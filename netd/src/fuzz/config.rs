//! `netd.json`, and the flags that are laid over it.

use crate::model::{
    Config,
    config::{Bip, ConfigFile, PoolEntry},
};

pub(super) fn play(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // What comes before the first NUL are flags.
    let (flags, text) = text.split_once('\0').unwrap_or(("", &text));
    let _ = flags.parse::<Bip>();
    let _ = flags.parse::<PoolEntry>();
    let flags = flags.parse::<ConfigFile>().unwrap_or_default();
    let Ok(file) = text.parse::<ConfigFile>() else { return };
    let written = serde_json::to_string(&file).expect("a file is JSON");
    assert_eq!(written.parse::<ConfigFile>(), Ok(file.clone()), "{written}");
    assert_eq!(file.clone().merge(ConfigFile::default()), file);
    assert_eq!(ConfigFile::default().merge(file.clone()), file);
    let merged = file.clone().merge(flags.clone());
    assert_eq!(merged.clone().merge(flags), merged);
    for file in [file, merged] {
        match Config::try_from(file) {
            Ok(config) => check(&config),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

fn check(config: &Config) {
    assert!(!config.default_address_pools.is_empty());
    for pool in &config.default_address_pools {
        let chosen = crate::ipam::choose_subnet(&[*pool], None, &[]);
        let chosen = chosen.expect("a pool that nobody uses has room");
        assert!(crate::ipam::encloses(pool.base, chosen));
    }
    if let Some(Bip::Address(bip)) = config.bip {
        let subnet = crate::ipam::network_of(bip);
        assert_ne!(subnet.ip(), bip.ip());
        assert!(config.fixed_cidr.is_none_or(|it| crate::ipam::encloses(subnet, it)));
        assert!(config.default_gateway.is_none_or(|it| subnet.contains(it)));
    }
}
