//! What of this host helps or hinders netd: reads /proc and /sys, runs
//! nothing, changes nothing. Each check is a function of what was read.

use serde::{Deserialize, Serialize};
