//! What the owner of a running gateway asks about failed logins: who has to wait, and that they need not.
//!
//! [`super::server`] calls it. Penalties are the process's: without a gateway there is nobody to ask.

use serde::{Deserialize, Serialize};

use super::message::{Failure, FailureCode, Request, Response};
use crate::{
    penalties::{Penalised, Penalties},
    source::Source,
};

/// A source that has failed lately, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListedPenalty {
    /// Where: `192.0.2.7`, `2001:db8::/64`, `uid:1000`, `local`, or `certificate:` and the beginning of its
    /// fingerprint.
    pub source: String,
    /// Seconds until nothing is left of it, rounded up.
    pub left: u64,
    /// Whether everybody there has to wait; else at most some names.
    pub enforced: bool,
    /// How many names have to wait there.
    pub names: usize,
}

impl ListedPenalty {
    fn of(penalised: &Penalised) -> Self {
        Self {
            source: penalised.source.to_string(),
            left: penalised.left.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX),
            enforced: penalised.enforced,
            names: penalised.names,
        }
    }
}

/// Answers what is about penalties; `None` to any other request.
pub(super) fn answer(penalties: Option<&Penalties>, request: &Request) -> Option<Response> {
    let clears = match request {
        Request::Penalties => None,
        Request::ClearPenalties { source } => Some(source),
        _ => return None,
    };
    let Some(penalties) = penalties else {
        return Some(Response::Failed(Failure::new(
            FailureCode::Unknown,
            "penalties: no socket of this gateway counts failed logins",
            "penalties=yes counts them",
        )));
    };
    Some(match clears {
        Some(Some(source)) => clear(penalties, source),
        Some(None) => {
            penalties.clear_all();
            Response::Done
        }
        None => Response::Penalties {
            refused: penalties.refused(),
            penalties: penalties.list().iter().map(ListedPenalty::of).collect(),
        },
    })
}

fn clear(penalties: &Penalties, text: &str) -> Response {
    let shown = text.escape_debug();
    match text.parse::<Source>() {
        Ok(source) if penalties.clear(&source) => Response::Done,
        Ok(_) => Response::Failed(Failure::new(
            FailureCode::Unknown,
            format!("{shown}: it has no penalty"),
            "see `countersign penalties list`",
        )),
        Err(()) => Response::Failed(Failure::new(
            FailureCode::Unacceptable,
            format!("{shown}: it is no source"),
            "write it as `countersign penalties list` does: 192.0.2.7, 2001:db8::/64, uid:1000, certificate:HEX",
        )),
    }
}
