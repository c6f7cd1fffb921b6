//! The system's own answer to "what is the name of this address".
//!
//! Called by the module `hosts`, which asks on a thread of its own: an answer may take the resolver's
//! whole patience.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, c_char},
    io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
};

use socket2::SockAddr;

/// The name that the system knows for an address (hosts file, DNS); `None` if it has none.
///
/// Whoever is in charge of the address chose that name: it proves nothing until
/// [`addresses_of`] it holds the address.
///
/// # Errors
/// The resolver gave no answer, which is not the answer "none".
pub fn name_of(address: IpAddr) -> io::Result<Option<String>> {
    /// The longest name that the system gives (`NI_MAXHOST`).
    const LONGEST: libc::socklen_t = 1025;
    let address = SockAddr::from(SocketAddr::new(address, 0));
    let mut name: Vec<c_char> = vec![0; LONGEST as usize];
    // SAFETY: the address and its length are of one live `SockAddr`; the buffer is valid for writing
    // `LONGEST` characters, of which the last stays NUL or is made so by the call; no service is asked
    // for, so that buffer may be null.
    let status = unsafe {
        libc::getnameinfo(
            address.as_ptr().cast(),
            address.len(),
            name.as_mut_ptr(),
            LONGEST,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    match status {
        0 => {
            // SAFETY: on success the buffer holds a string that ends with NUL, and it lives until the
            // text is copied.
            let name = unsafe { CStr::from_ptr(name.as_ptr()) };
            Ok(Some(name.to_string_lossy().into_owned()))
        }
        libc::EAI_NONAME => Ok(None),
        code => Err(io::Error::other(format!("the resolver answers with error {code}"))),
    }
}

/// The addresses of a name.
///
/// # Errors
/// The resolver gave no answer, or none exists.
pub fn addresses_of(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip().to_canonical()).collect())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn this_machine_has_a_name_and_the_name_leads_back() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let name = name_of(loopback).unwrap().expect("the hosts file names 127.0.0.1");
        assert!(addresses_of(&name).unwrap().contains(&loopback));
    }

    #[test]
    fn an_address_for_documentation_has_no_name() {
        // RFC 3849. A machine without any resolver may also say that it has no answer.
        let nowhere = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        assert!(!matches!(name_of(nowhere), Ok(Some(_))));
    }
}
