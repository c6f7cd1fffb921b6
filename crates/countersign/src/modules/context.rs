//! What a module may hold on to beside its options.

use crate::trust::{FirstUse, Place, Trust};

/// The surroundings of a link: the gateway's state, and the socket whose chain it is in.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Context {
    /// The accepted certificates. `None` where there is no state directory.
    pub trust: Option<Trust>,
    /// The socket, as scopes name it.
    pub place: Place,
    /// Who may be the first client of the gateway, if that can be decided on this socket.
    pub first_use: Option<FirstUse>,
}

impl Context {
    /// A context that has accepted certificates.
    pub fn with_trust(trust: Trust) -> Self {
        Self { trust: Some(trust), ..Self::default() }
    }
}
