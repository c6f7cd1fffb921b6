//! Taking a secret out of this process's command line, which every user of the machine can read.
//!
//! Called by the commands that take an address with a password in it, before they connect (S-48).

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
};

/// Overwrites each argument that is exactly `argument` with `instead`, cut or filled to its length,
/// so that `/proc/PID/cmdline` and `ps` show that from now on. Says whether one was found.
///
/// Call it while there is one thread: the arguments are also what `std::env::args` reads.
///
/// # Errors
/// This system has no way to do so (it is Linux's `/proc/self/mem`), or it is closed to us.
pub fn replace_argument(argument: &str, instead: &str) -> io::Result<bool> {
    let (start, end) = argument_area()?;
    let mut memory = OpenOptions::new().read(true).write(true).open("/proc/self/mem")?;
    let mut area = vec![0; usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?];
    memory.seek(SeekFrom::Start(start))?;
    memory.read_exact(&mut area)?;
    let mut found = false;
    let mut offset = start;
    for text in area.split(|byte| *byte == 0) {
        if text == argument.as_bytes() {
            // Control characters and NUL would end it or forge lines of `ps`: blanks fill it.
            let mut bytes: Vec<u8> = instead.bytes().take(text.len()).collect();
            bytes.resize(text.len(), b' ');
            memory.seek(SeekFrom::Start(offset))?;
            memory.write_all(&bytes)?;
            found = true;
        }
        offset += text.len() as u64 + 1;
    }
    Ok(found)
}

/// Where the kernel finds the arguments: fields 48 and 49 of proc_pid_stat(5).
fn argument_area() -> io::Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field is the program's name in parentheses and may hold anything.
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
    let mut fields = fields.split_ascii_whitespace().skip(48 - 3).map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(start)), Some(Ok(end))) if start != 0 && start <= end => Ok((start, end)),
        _ => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the kernel does not tell where the arguments are",
        )),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn s_048_an_argument_is_replaced_in_the_process_list() {
        let cmdline = || String::from_utf8(fs::read("/proc/self/cmdline").unwrap()).unwrap();
        let own = cmdline().split('\0').next().unwrap().to_owned();
        assert!(!replace_argument("tcp://alice:hunter2@host", "x").unwrap());
        assert!(replace_argument(&own, "tcp").unwrap());
        assert!(!cmdline().contains(&own) && cmdline().starts_with("tcp "), "{}", cmdline());
        // Back again, for whoever looks at the tests.
        let blank = format!("tcp{}", " ".repeat(own.len() - 3));
        assert!(replace_argument(&blank, &own).unwrap());
        assert_eq!(cmdline().split('\0').next(), Some(&*own));
    }
}
