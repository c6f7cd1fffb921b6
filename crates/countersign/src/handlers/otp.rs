//! `otp`: the one-time code of now, from the secret that an authenticator would hold.

use std::{io::Read as _, path::PathBuf, time::SystemTime};

use zeroize::Zeroizing;

use super::{Handler, Sources};
use crate::{
    Secret,
    error::ConfigError,
    options::{OptionSpec, Options},
    proto::{
        client::{Failure, ProvideSecret, Provided, Question, Responder},
        mechanism::otp::OtpSecret,
    },
    sys::files,
};

pub(super) struct Otp;

impl Handler for Otp {
    fn name(&self) -> &'static str {
        "otp"
    }

    fn summary(&self) -> &'static str {
        "the one-time code of now, made from its secret"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn manual(&self) -> &'static str {
        "It answers the questions for a one-time code and no others: those whose text holds the word of prompt=, by \
         default OTP. The secret is in a file that nobody else can read, or in the variable \
         COUNTERSIGN_OTP_SECRET: base32 as an authenticator shows it, or an otpauth://totp/ URI. Without either it \
         answers nothing, and the prompt asks the person for the code. A secret beside the password on one disk is one \
         factor, not two: keep it for programs that log in."
    }

    fn example(&self) -> &'static str {
        "otp(filename=/home/alice/.app-otp)"
    }

    fn configure(
        &self,
        options: &mut Options,
        sources: &mut Sources,
    ) -> Result<Option<Responder>, ConfigError> {
        let word = options.take("prompt")?.map_or_else(|| DEFAULT.to_owned(), |word| word.to_string());
        let insecure = options.flag("insecure", false)?;
        let from = match options.take("filename")? {
            Some(path) if path.is_empty() => {
                return Err(options.error("filename", "its value is empty", "write otp(filename=FILE)"));
            }
            Some(path) => From::File(PathBuf::from(&**path), insecure),
            None => match sources.variable(VARIABLE) {
                Some(value) => From::Variable(Secret::new(value.into_encoded_bytes())),
                None => return Ok(None),
            },
        };
        let word = word.to_lowercase();
        Ok(Some(Responder::secret("otp", Codes { from, word })))
    }
}

/// Makes codes when they are asked for.
struct Codes {
    from: From,
    /// In lower case.
    word: String,
}

/// Where the secret is.
enum From {
    File(PathBuf, bool),
    Variable(Secret),
}

impl ProvideSecret for Codes {
    fn provide(&self, _: &Question<'_>) -> Result<Option<Provided>, Failure> {
        let secret = match &self.from {
            From::File(path, insecure) => {
                let what = format!("one-time secret {}", path.display());
                OtpSecret::parse(&read(path, *insecure)?, 0).map_err(|why| unusable(&what, why))?
            }
            From::Variable(value) => OtpSecret::parse(value, 0).map_err(|why| unusable(VARIABLE, why))?,
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Some(Provided::Bytes(secret.code(now.as_secs()))))
    }

    fn suits(&self, question: &Question<'_>) -> bool {
        question.prompt.to_lowercase().contains(&self.word)
    }

    /// What answers no question for a password is not to be told of to a server that asks for one.
    fn is_at_hand(&self) -> bool {
        false
    }
}

fn read(path: &std::path::Path, insecure: bool) -> Result<Secret, Failure> {
    let file = files::open_private(path, insecure)
        .map_err(|fault| Failure::unusable(format!("one-time secret {fault}"), fault.fix()))?;
    let mut content = Zeroizing::new(Vec::with_capacity(MOST_BYTES));
    let what = format!("one-time secret {}", path.display());
    file.take(MOST_BYTES as u64)
        .read_to_end(&mut content)
        .map_err(|_| unusable(&what, "it cannot be read"))?;
    Ok(Secret::new(std::mem::take(&mut *content)))
}

fn unusable(what: &str, why: &str) -> Failure {
    Failure::unusable(format!("{what}: {why}"), "write the secret as the authenticator was given it")
}

const VARIABLE: &str = "COUNTERSIGN_OTP_SECRET";

/// The word that our gateway and Xpra's servers ask with.
const DEFAULT: &str = "OTP";

/// More than any otpauth URI has.
const MOST_BYTES: usize = 4096;

const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("filename", "FILE", "", "the file with the secret; without it, COUNTERSIGN_OTP_SECRET"),
    OptionSpec::new("prompt", "WORD", DEFAULT, "the word in a question that is for a code"),
    OptionSpec::new("insecure", "yes|no", "no", "use the file even if others can read or replace it"),
];

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::proto::{
        challenge::Challenge,
        client::{Means, Server},
        mechanism::Mechanism,
    };

    const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn responder(options: &[(&str, &str)], variable: Option<&str>) -> Result<Option<Responder>, ConfigError> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let variable = variable.map(str::to_owned);
        let mut sources = Sources::nowhere().with_env(move |name| match name {
            VARIABLE => variable.clone().map(Into::into),
            _ => None,
        });
        Otp.configure(&mut Options::new("otp", options), &mut sources)
    }

    /// Whether it suits a question with this prompt, and what it answers.
    fn ask(responder: &Responder, prompt: &str) -> (bool, Result<Secret, Failure>) {
        let Means::Secret(source) = &responder.means else { panic!("it holds a secret") };
        let challenge = Challenge::new(vec![7; 64], Mechanism::Xor, "hmac+sha512", prompt);
        let server = Server::new("unix:/run/app", true, true);
        let question = Question::new(&server, None, &challenge);
        let answer = source.provide(&question).map(|provided| match provided {
            Some(Provided::Bytes(code)) => code,
            other => panic!("a code, not {other:?}"),
        });
        (source.suits(&question), answer)
    }

    fn is_a_code_of_now(code: &Secret) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        OtpSecret::parse(&Secret::new(SECRET), 1).unwrap().check(code, now).is_some()
    }

    #[test]
    fn it_answers_what_asks_for_a_code_and_nothing_else() {
        let responder = responder(&[], Some(SECRET)).unwrap().unwrap();
        let (suits, code) = ask(&responder, "OTP");
        assert!(suits && is_a_code_of_now(&code.unwrap()));
        assert!(ask(&responder, "otp for alice").0);
        for other in ["password", "password 1 of 2", "", "one-time password"] {
            assert!(!ask(&responder, other).0, "{other}");
        }
        let own = super::tests::responder(&[("prompt", "Verification")], Some(SECRET)).unwrap().unwrap();
        assert!(ask(&own, "verification code:").0 && !ask(&own, "OTP").0);
    }

    #[test]
    fn s_032_a_secret_that_cannot_be_used_is_said_and_none_is_left_out() {
        assert!(responder(&[], None).unwrap().is_none());
        assert!(responder(&[("filename", "")], None).is_err());
        let short = responder(&[], Some("JBSWY3DPEHPK3PXP")).unwrap().unwrap();
        let failure = ask(&short, "OTP").1.unwrap_err().to_string();
        assert!(failure.contains("128 bits") && !failure.contains("JBSW"), "{failure}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let from = responder(&[("filename", path.to_str().unwrap())], None).unwrap().unwrap();
        assert!(ask(&from, "OTP").1.is_err());
        std::fs::write(&path, format!("{SECRET}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(ask(&from, "OTP").1.is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(is_a_code_of_now(&ask(&from, "OTP").1.unwrap()));
    }
}
