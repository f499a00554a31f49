//! Reading netd's JSON in a test's words.

use serde_json::Value;

/// The one element of a list.
#[track_caller]
pub fn one(list: &Value) -> &Value {
    match list.as_array().map(Vec::as_slice) {
        Some([only]) => only,
        _ => panic!("a list of one is expected, not {list}"),
    }
}

/// The elements of a list.
#[track_caller]
pub fn rows(list: &Value) -> &[Value] {
    let rows = list.as_array();
    rows.unwrap_or_else(|| panic!("a list is expected, not {list}"))
}

/// The string at a JSON pointer (`/State/Pid`).
#[track_caller]
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no string at {pointer} of {value:#}"))
}

/// The number at a JSON pointer.
#[track_caller]
pub fn number(value: &Value, pointer: &str) -> u64 {
    let found = value.pointer(pointer).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no number at {pointer} of {value:#}"))
}

/// Replaces each value for which `volatile` holds of its key, at any depth.
pub fn mask(value: &mut Value, volatile: &dyn Fn(&str) -> bool) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, volatile)),
        Value::Object(members) => {
            for (key, member) in members {
                if volatile(key) {
                    *member = Value::from("…");
                } else {
                    mask(member, volatile);
                }
            }
        }
        _ => {}
    }
}
