//! `ssh-key`: signatures by the keys of an ssh-agent, or by a key file through `ssh-keygen`.

mod agent;

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use agent::Agent;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{Handler, Sources};
use crate::{
    Secret, Username,
    error::ConfigError,
    options::{OptionSpec, Options},
    proto::{
        challenge::{Challenge, Response},
        client::{Exchange, Failure, FailureKind, Means, OpenExchange, Question, Responder},
        mechanism::ssh_key::{Login, NAME, NAMESPACE, NO_MORE, Signed, to_be_signed},
    },
};

pub(super) struct SshKey;

impl Handler for SshKey {
    fn name(&self) -> &'static str {
        "ssh-key"
    }

    fn summary(&self) -> &'static str {
        "a signature by a key of ssh-agent, or by a key file through ssh-keygen"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "It signs logins for servers that ask for ssh-key. Without key=, the keys of the agent in SSH_AUTH_SOCK are tried \
         in its order, certificates included; a server lets a client try six, and does not say which it knows. key= \
         names one: a public key (.pub) chooses that one of the agent's, a private key is used through the program \
         ssh-keygen, which asks for its passphrase, finds security keys and uses NAME-cert.pub beside it. Private keys \
         never enter this program.\n\n\
         Signatures are of OpenSSH's general kind for the namespace countersign, so that no server can have an SSH login \
         or anything else signed; each holds for one login on one connection, and on TLS 1.3 for its session. With \
         channel-binding=require nothing else is signed. RSA keys sign with SHA-512."
    }

    fn example(&self) -> &'static str {
        "ssh-key(key=/home/alice/.ssh/id_ed25519.pub, channel-binding=require)"
    }

    fn configure(
        &self,
        options: &mut Options,
        sources: &mut Sources,
    ) -> Result<Option<Responder>, ConfigError> {
        let require_binding = options.choice("channel-binding", ["prefer", "require"])? == "require";
        let agent = sources.variable("SSH_AUTH_SOCK").map(|path| Agent(path.into()));
        let key = options.take("key")?.map(|path| PathBuf::from(&**path));
        if key.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            return Err(options.error("key", "its value is empty", "write ssh-key(key=FILE)"));
        }
        // All keys of an agent stay out of logins that ask for something else.
        let some = key.is_some() || agent.is_some();
        let keys = Keys { agent, key, require_binding };
        Ok(some.then(|| Responder::new("ssh-key", Means::Exchange(Box::new(keys)))))
    }
}

/// Where keys are.
struct Keys {
    agent: Option<Agent>,
    key: Option<PathBuf>,
    require_binding: bool,
}

/// Something that signs.
enum Signer {
    /// A key of the agent.
    Agent(Agent, Vec<u8>),
    /// A file with a private key, or the certificate for it.
    File(PathBuf),
}

impl OpenExchange for Keys {
    fn mechanisms(&self) -> &[&'static str] {
        &[NAME]
    }

    fn open(&self, _: &Question<'_>) -> Result<Option<Box<dyn Exchange>>, Failure> {
        let signers = match &self.key {
            Some(path) => vec![self.chosen(path)?],
            None => self.all()?,
        };
        let some = !signers.is_empty();
        let (signers, require_binding) = (signers.into_iter(), self.require_binding);
        let tries = Tries { signers, said_so: false, require_binding };
        Ok(some.then(|| Box::new(tries) as Box<dyn Exchange>))
    }
}

impl Keys {
    fn all(&self) -> Result<Vec<Signer>, Failure> {
        let Some(agent) = &self.agent else { return Ok(Vec::new()) };
        let keys = agent.keys().map_err(|error| unreachable_agent(agent, &error))?;
        Ok(keys.into_iter().map(|key| Signer::Agent(agent.clone(), key)).collect())
    }

    /// The key of a file: the agent's, if it is a public one and the agent has it.
    fn chosen(&self, path: &Path) -> Result<Signer, Failure> {
        let unusable = |why: String, fix: &'static str| {
            Failure::unusable(format!("SSH key {}: {why}", path.display()), fix)
        };
        if path.extension().is_none_or(|extension| extension != "pub") {
            std::fs::metadata(path)
                .map_err(|error| unusable(error.to_string(), "write the path of the right file"))?;
            let certificate = PathBuf::from(format!("{}-cert.pub", path.display()));
            return Ok(Signer::File(if certificate.exists() { certificate } else { path.to_owned() }));
        }
        let line = std::fs::read_to_string(path)
            .map_err(|error| unusable(error.to_string(), "write the path of the right file"))?;
        let key = line.split_ascii_whitespace().nth(1).and_then(|key| STANDARD.decode(key).ok());
        let key = key.ok_or_else(|| {
            unusable("it holds no public key".to_owned(), "name a file as ssh-keygen writes it")
        })?;
        match &self.agent {
            Some(agent) if agent.keys().map_err(|error| unreachable_agent(agent, &error))?.contains(&key) => {
                Ok(Signer::Agent(agent.clone(), key))
            }
            _ => Ok(Signer::File(path.to_owned())),
        }
    }
}

/// The keys that were not tried yet.
struct Tries {
    signers: std::vec::IntoIter<Signer>,
    /// The server knows that there are no more.
    said_so: bool,
    require_binding: bool,
}

impl Exchange for Tries {
    fn step(&mut self, challenge: &Challenge, question: &Question<'_>) -> Result<Option<Response>, Failure> {
        let asked = challenge.mechanism.name();
        let bound = Login::asked(asked).ok_or_else(|| {
            Failure::new(FailureKind::Misbehaved, "the server asks for a signature over something unknown")
        })?;
        let binding = question.server.channel_binding.as_deref().filter(|_| bound);
        if binding.is_none() && (bound || self.require_binding) {
            let cause =
                "the signature would not be bound to this connection's TLS session, or to another one's";
            return Err(Failure::new(FailureKind::Forbidden, cause)
                .with_fix("use tls:// straight to the server, without anything in between that ends TLS"));
        }
        let name = question.username.map_or("", Username::as_str);
        let (server_salt, client_salt) = (&*challenge.salt, question.nonce);
        let statement = Login { name, binding, server_salt, client_salt }.statement();
        for signer in self.signers.by_ref() {
            if let Some(signed) = signer.sign(&statement)? {
                return Ok(Some(Response::new(Secret::new(signed), client_salt.to_vec())));
            }
        }
        if !std::mem::replace(&mut self.said_so, true) {
            return Ok(Some(Response::new(Secret::new(NO_MORE), client_salt.to_vec())));
        }
        Err(Failure::new(FailureKind::Refused, "the server accepts none of the SSH keys that are here")
            .with_fix("have the public key added to the server's authorized_keys, or name another with ssh-key(key=FILE)"))
    }
}

impl Signer {
    /// The signature as it travels; `None` where whoever minds the key says no.
    fn sign(&self, statement: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        match self {
            Self::Agent(agent, key) => {
                let signature = agent
                    .sign(key, &to_be_signed(statement))
                    .map_err(|error| unreachable_agent(agent, &error))?;
                Ok(signature.map(|signature| Signed::new(key, &signature).to_bytes()))
            }
            Self::File(path) => {
                let unusable = |why: String| {
                    Failure::unusable(
                        format!("SSH key {}: {why}", path.display()),
                        "check the file and its passphrase with `ssh-keygen -y -f FILE`",
                    )
                };
                let armoured = ssh_keygen(path, statement).map_err(|error| unusable(error.to_string()))?;
                let signed = unarmoured(&armoured).filter(|signed| Signed::read(signed).is_some());
                signed.map(Some).ok_or_else(|| unusable("ssh-keygen makes no signature with it".to_owned()))
            }
        }
    }
}

/// A signature by `ssh-keygen -Y sign`, which asks whoever sits at the terminal for what it needs.
fn ssh_keygen(key: &Path, statement: &[u8]) -> io::Result<String> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-Y", "sign", "-n", NAMESPACE, "-f"]).arg(key);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("ssh-keygen is not installed (openssh-client)"),
        _ => error,
    })?;
    if let Some(mut input) = child.stdin.take() {
        // One that has ended already says why by its exit code.
        let _ = input.write_all(statement);
    }
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => String::from_utf8(output.stdout).map_err(io::Error::other),
        false => Err(io::Error::other("ssh-keygen cannot sign with it")),
    }
}

/// The bytes between the lines of dashes.
fn unarmoured(text: &str) -> Option<Vec<u8>> {
    let inside = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let code: String = inside.split_ascii_whitespace().collect();
    STANDARD.decode(code).ok()
}

fn unreachable_agent(agent: &Agent, error: &io::Error) -> Failure {
    let cause = format!("the ssh-agent at {}: {error}", agent.0.display());
    Failure::unusable(cause, "start one (ssh-agent), or correct SSH_AUTH_SOCK")
}

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("key", "FILE", "", "the only key to use: a public one of the agent's, or a private one"),
    OptionSpec::new("channel-binding", "prefer|require", "prefer", "sign only for TLS 1.3, bound to it"),
];
