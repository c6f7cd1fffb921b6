//! The versions of Xpra that Debian does not have, built for the tests from their source archives.

use std::{env, path::PathBuf, process::Command};

use crate::step::{Failed, cannot_start, skipped, timed};

/// Builds what is not built yet, into `target/xpra`. Where the network or a compiler is missing the tests do without
/// these versions, and it is said here why.
pub(crate) fn build() -> Result<(), Failed> {
    let mut command = Command::new("/usr/bin/python3");
    command.arg("interop/xpra/build.py").arg(target()?.join("xpra"));
    let left_out = timed("other versions of Xpra for the tests", || {
        let output = command.output().map_err(|error| cannot_start(&command, &error))?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.code() {
            Some(0) => Ok(None),
            Some(LEFT_OUT) => Ok(Some(told)),
            _ => Err(Failed(format!("Xpra: {told}{}", String::from_utf8_lossy(&output.stderr)))),
        }
    })?;
    if let Some(why) = left_out {
        skipped("tests with Xpra 4.4 and 6.5", why.trim_end());
    }
    Ok(())
}

/// The folder that this very program was built in: `target/PROFILE/xtask` lies two levels below it.
fn target() -> Result<PathBuf, Failed> {
    let own = env::current_exe()?;
    let folder = own.ancestors().nth(2).map(PathBuf::from);
    folder.ok_or_else(|| Failed(format!("{} lies in no target folder", own.display())))
}

/// How `build.py` ends when something is missing that it needs.
const LEFT_OUT: i32 = 3;
