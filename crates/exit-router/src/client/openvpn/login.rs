//! What is answered when OpenVPN asks who comes: name and password from a credential, and at most
//! one one-time code, once.

use super::super::secret::Secret;
use super::super::{Context, Ended, base64};
use super::management::quoted;
use super::options::Options;

/// What is known of the login.
pub(super) struct Login<'a> {
    context: &'a Context,
    /// Name and password; no password: the code is it.
    user: Option<(String, Option<Secret>)>,
    code: Option<Secret>,
    /// The state that the server's challenge has given (CRV1).
    state: Option<String>,
}

impl<'a> Login<'a> {
    /// # Errors
    /// A credential cannot be read, or the profile is interactive and nobody has given a code.
    pub(super) fn new(
        context: &'a Context,
        options: &Options,
        interactive: bool,
    ) -> Result<Self, Ended> {
        let user = match context.secrets.read("auth")? {
            Some(text) => Some(parse(&text.0)),
            None => options.login.as_ref().map(|text| parse(&text.0)),
        };
        let code = context.secrets.read("code")?;
        let code = code.map(|code| Secret(code.0.trim().to_owned()));
        let code = code.filter(|code| interactive && !code.0.is_empty());
        if interactive && code.is_none() {
            return Err(context.refusals.parked("it asks for a one-time code"));
        }
        Ok(Self { context, user, code, state: None })
    }

    /// The server wants a code, to be given at the next login.
    pub(super) fn challenged(&mut self, state: String) {
        self.state = Some(state);
    }

    /// Both commands for a login. `challenge`: the code goes with the password.
    pub(super) fn answer(&mut self, challenge: bool) -> Result<Secret, Ended> {
        let file = self.context.secrets.file("auth");
        let Some((user, password)) = self.user.clone() else {
            return Err(Ended::Wrong(format!(
                "the server wants a user name and a password: put them, a line each, mode 0600, into \
                 /etc/credstore/{file}, or encrypt them: systemd-creds encrypt --name={file} FILE \
                 /etc/credstore.encrypted/{file}.cred"
            )));
        };
        let password = match (self.state.take(), password) {
            (Some(state), _) => format!("CRV1::{state}::{}", self.spend()?),
            (None, Some(Secret(password))) if challenge => {
                let code = self.spend()?;
                let [password, code] = [&password, &code].map(|one| base64::encode(one.as_bytes()));
                format!("SCRV1:{password}:{code}")
            }
            (None, Some(Secret(password))) => password,
            (None, None) => self.spend()?,
        };
        let (user, password) = (quoted(&user), quoted(&password));
        Ok(Secret(format!("username \"Auth\" {user}\npassword \"Auth\" {password}\n")))
    }

    /// The command for a challenge within a session.
    pub(super) fn answer_to_text(&mut self) -> Result<Secret, Ended> {
        let code = self.spend()?;
        Ok(Secret(format!("cr-response {}\n", quoted(&base64::encode(code.as_bytes())))))
    }

    /// The code. There is no second one, so a session that it has begun ends with it.
    fn spend(&mut self) -> Result<String, Ended> {
        let refusals = &self.context.refusals;
        let Some(Secret(code)) = self.code.take() else {
            let why = "the server wants a one-time code (interactive = true in the profile)";
            return Err(refusals.parked(why));
        };
        refusals.code_sent()?;
        Ok(code)
    }
}

/// A line with the name, and one with the password.
pub(super) fn parse(text: &str) -> (String, Option<Secret>) {
    let mut lines = text.lines();
    let user = lines.next().unwrap_or_default().to_owned();
    (user, lines.next().filter(|line| !line.is_empty()).map(|line| Secret(line.to_owned())))
}
