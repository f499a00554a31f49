//! Values of options. What needs the model or the agent's state to judge goes
//! to the agent as it is.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::model::{PortSpec, port::Expose};

/// `KEY=VALUE`; the value may hold further `=`.
pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("KEY=VALUE is expected".to_owned()),
    }
}

/// `-p`, checked here and judged by the agent.
pub(super) fn port_spec(text: &str) -> Result<String, String> {
    text.parse::<PortSpec>().map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// `--expose`, likewise.
pub(super) fn expose(text: &str) -> Result<String, String> {
    text.parse::<Expose>().map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// An address, as text.
pub(super) fn address(text: &str) -> Result<String, String> {
    text.parse::<IpAddr>().map_err(|_| "an IP address is expected".to_owned())?;
    Ok(text.to_owned())
}

/// A subnet, as text; whether it has host bits is the agent's to judge.
pub(super) fn subnet(text: &str) -> Result<String, String> {
    match text.parse::<IpNetwork>() {
        Ok(_) if text.contains('/') => Ok(text.to_owned()),
        _ => Err("ADDRESS/PREFIX is expected".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_equals_sign_splits() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_value("a="), Ok(("a".into(), String::new())));
        assert!(key_value("=b").is_err());
        assert!(key_value("a").is_err());
    }
}
