//! What the benches read about the processes they measure, and the settings of a run.

use std::{env, fs, time::Duration};

use nix::{time::clock_getcpuclockid, unistd::Pid};

/// User and system time of a process so far, in seconds. The kernel counts it in nanoseconds, whatever the length
/// of its ticks, and keeps that of threads which have ended.
#[allow(dead_code, reason = "not every bench counts processor time")]
pub(crate) fn cpu(process: u32) -> f64 {
    let process = Pid::from_raw(process.try_into().expect("a process number"));
    let clock = clock_getcpuclockid(process).expect("it runs");
    Duration::from(clock.now().expect("its clock")).as_secs_f64()
}

/// Resident memory of a process, in KiB.
pub(crate) fn resident(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

/// A whole number from the environment.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
