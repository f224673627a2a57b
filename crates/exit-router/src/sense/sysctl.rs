//! Kernel settings, in /proc/sys.

/// What one is set to, as sysctl(8) names it.
///
/// # Errors
/// For people: its file and why it cannot be read.
pub fn read(name: &str) -> Result<String, String> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    std::fs::read_to_string(&path)
        .map(|text| text.trim_end().to_owned())
        .map_err(|error| format!("{path}: {error}"))
}
