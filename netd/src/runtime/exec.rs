//! Another command in a running container's namespace, in place of the
//! process that asks for it.

use std::{os::unix::process::CommandExt as _, path::Path, process::Command};

use super::{RuntimeError, enter};

/// Enters the namespace `netns` and becomes `command`, which is not empty.
/// Returns only when that fails.
pub fn exec(netns: &Path, command: &[String]) -> RuntimeError {
    if let Err(error) = enter(netns) {
        return error;
    }
    let error = Command::new(&command[0]).args(&command[1..]).exec();
    RuntimeError::exec(command[0].as_ref(), &error)
}
