//! The one image: busybox and what a name server's client needs.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use crate::Program;

/// What runs inside of containers.
const APPLETS: [&str; 12] =
    ["cat", "echo", "httpd", "ip", "ls", "nc", "nslookup", "ping", "sh", "sleep", "true", "wget"];

/// Does nothing until it is told to end: a first process that does not ask for
/// SIGTERM does not get it.
const IDLE: &str = "#!/bin/sh\ntrap 'exit 0' TERM\nsleep infinity &\nwait\n";

/// Packs it into `folder`, as `docker import` reads it.
pub(super) fn pack(folder: &Path) -> PathBuf {
    let tree = folder.join("image");
    for inner in ["bin", "etc", "tmp", "www"] {
        fs::create_dir_all(tree.join(inner)).expect("create the image's folders");
    }
    fs::copy(busybox(), tree.join("bin/busybox")).expect("copy busybox");
    for applet in APPLETS {
        symlink("busybox", tree.join("bin").join(applet)).expect("link an applet");
    }
    let idle = tree.join("bin/idle");
    fs::write(&idle, IDLE).expect("write the idle program");
    fs::set_permissions(&idle, Permissions::from_mode(0o755)).expect("let it be run");
    let tar = folder.join("image.tar");
    let line = ["-C".as_ref(), tree.as_os_str(), "-cf".as_ref(), tar.as_os_str(), ".".as_ref()];
    Program::new("tar").args(line).output().ok();
    tar
}

/// Debian's `busybox-static`.
fn busybox() -> PathBuf {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let found = places.into_iter().find(|path| path.exists());
    found.expect("busybox is installed (`cargo xtask setup`)")
}
