//! Published ports as the host's own processes reach them.

mod cgroup;
mod end;
mod reach;
mod scene;
