//! Libraries of the system that are looked for when they are wanted, not when this program is built.
//!
//! Called by the files of `sys` that speak to such a library. So `cargo build` needs none of them, and
//! a gateway that uses none runs without.
#![allow(unsafe_code)]

use std::{mem::ManuallyDrop, ops::Deref};

use libloading::os::unix::{RTLD_LOCAL, RTLD_NOW};

use crate::error::ConfigError;

/// A C library that stays loaded until the program ends.
#[derive(Debug)]
pub struct Library {
    name: &'static str,
    handle: ManuallyDrop<libloading::os::unix::Library>,
}

/// A function of a [`Library`], of the C type `F`. The library outlives it, because it is never unloaded.
#[derive(Debug)]
pub struct Function<F>(libloading::os::unix::Symbol<F>);

impl<F> Deref for Function<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.0
    }
}

impl Library {
    /// Loads the library with this soname (`libpam.so.0`), found as the system finds libraries.
    ///
    /// # Errors
    /// It is not there: the error names `package`, which is the Debian package that brings it.
    pub fn open(name: &'static str, package: &'static str) -> Result<Self, ConfigError> {
        // SAFETY: loading runs the library's constructors. The names are constants of this program, looked for
        // where the administrator's libraries are; whoever can change one there can change this program.
        let loaded = unsafe { libloading::os::unix::Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) };
        match loaded {
            Ok(handle) => Ok(Self { name, handle: ManuallyDrop::new(handle) }),
            Err(_) => Err(ConfigError::new(
                name,
                "it is not on this machine",
                format!("install the package {package}"),
            )),
        }
    }

    /// A function of the library.
    ///
    /// # Errors
    /// The library has none of that name: it is another version than the one this program knows.
    ///
    /// # Safety
    /// `F` is the type of the function as the library's header declares it.
    pub unsafe fn function<F>(&self, name: &'static str) -> Result<Function<F>, ConfigError> {
        // SAFETY: the caller vouches for the type; the handle is never closed.
        match unsafe { self.handle.get(name.as_bytes()) } {
            Ok(symbol) => Ok(Function(symbol)),
            Err(_) => Err(ConfigError::new(
                self.name,
                format!("it has no function {name}"),
                "install the version that your system's packages have",
            )),
        }
    }
}
