//! The table of users behind `countersign users`, and what reads accounts for the modules.
//!
//! | file | holds |
//! |---|---|
//! | `table.rs` | the table: create, add, remove, change, list, check |
//! | `import.rs` | turning Xpra's tables and files into verifiers |
//! | `database.rs`, `multifile.rs` | reading accounts from SQLite and from a text file |
//! | `remote/` | reading accounts from PostgreSQL and MariaDB |
//! | `columns.rs` | which column of a query means what |
//! | `row.rs` | what the columns of an account mean |
//! | `verifier.rs`, `argon2id.rs` | a password at rest |
//! | `source.rs`, `scram.rs` | from accounts to the verifier of a chain |
#![forbid(unsafe_code)]

pub mod argon2id;
mod columns;
pub(crate) mod database;
mod error;
mod import;
pub(crate) mod multifile;
pub(crate) mod remote;
pub(crate) mod row;
pub(crate) mod scram;
pub(crate) mod source;
mod table;
pub(crate) mod verifier;

pub use error::UserError;
pub use import::{Imported, Skipped};
pub use table::{NewUser, Standing, UserRow, UserTable};
