//! The stores' settings: the environment's variables as object_store reads them, secrets from files, and what is checked of them
//! before a store is opened.

use crate::error::LakeError;

/// First parts of the names of the variables that stores are configured by.
const PREFIXES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// Secrets that can be in a file, whose name is in the variable with this ending. Not more: other variables with it are the SDKs' own.
const SECRETS: [&str; 6] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SSE_CUSTOMER_KEY_BASE64",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_CLIENT_SECRET",
];
const FILE: &str = "_FILE";

/// The stores' settings, resolved once from the environment (`AWS_*`, `AZURE_*`, `GOOGLE_*`, as object_store reads them).
#[derive(Clone, Default)]
pub struct StoreOptions {
    variables: Vec<(String, String)>,
    /// Why a secret's file cannot be used; said when a store is opened that could need it.
    problem: Option<String>,
}

impl StoreOptions {
    /// Reads the variables of the process environment that stores are configured by.
    pub fn from_env() -> Self {
        Self::from_variables(std::env::vars())
    }

    /// Takes those that stores are configured by among the given variables.
    pub fn from_variables(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let variables = variables
            .into_iter()
            .filter(|(key, _)| PREFIXES.iter().any(|prefix| key.starts_with(prefix)))
            .collect();
        let mut options = Self {
            variables,
            problem: None,
        };
        options.problem = options.read_secrets().err();
        options
    }

    /// Why they cannot be used.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Puts the contents of files in the place of the variables that name them.
    fn read_secrets(&mut self) -> Result<(), String> {
        for name in SECRETS {
            let variable = format!("{name}{FILE}");
            let Some(path) = self.get(&variable).map(ToOwned::to_owned) else {
                continue;
            };
            if self.get(name).is_some() {
                return Err(format!("{variable} and {name} are both set: set one of them"));
            }
            let text =
                std::fs::read_to_string(&path).map_err(|error| format!("{variable} `{path}`: {error}"))?;
            if text.trim().is_empty() {
                return Err(format!("{variable} `{path}`: it is empty"));
            }
            self.variables.retain(|(key, _)| key != name && *key != variable);
            self.variables.push((name.to_owned(), text.trim().to_owned()));
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.variables
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
            .filter(|v| !v.is_empty())
    }

    pub(super) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        self.variables
            .iter()
            // An empty variable is one that is not set, as for other tools.
            .filter(move |(key, value)| key.starts_with(prefix) && !value.is_empty())
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl std::fmt::Debug for StoreOptions {
    /// Names only: values can be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.variables.iter().map(|(key, _)| key))
            .finish()
    }
}

/// Checks the settings of server-side encryption. They are left out without a word where they are misspelt, and a lake that should
/// be encrypted would not be.
pub(super) fn encryption(options: &StoreOptions) -> Result<(), LakeError> {
    const PARTS: [(&str, &[&str]); 3] = [
        ("AWS_SSE_KMS_KEY_ID", &["aws:kms", "aws:kms:dsse"]),
        ("AWS_SSE_BUCKET_KEY_ENABLED", &["aws:kms", "aws:kms:dsse"]),
        ("AWS_SSE_CUSTOMER_KEY_BASE64", &["sse-c"]),
    ];
    let wrong = |problem: String| Err(LakeError::Configuration(problem));
    let kind = options.get("AWS_SERVER_SIDE_ENCRYPTION");
    if let Some(kind) = kind.filter(|kind| !["AES256", "aws:kms", "aws:kms:dsse", "sse-c"].contains(kind)) {
        return wrong(format!(
            "AWS_SERVER_SIDE_ENCRYPTION is `{kind}`: give AES256, aws:kms, aws:kms:dsse or sse-c"
        ));
    }
    for (part, kinds) in PARTS {
        if options.get(part).is_some() && !kind.is_some_and(|kind| kinds.contains(&kind)) {
            return wrong(format!("{part} needs AWS_SERVER_SIDE_ENCRYPTION={}", kinds[0]));
        }
    }
    if kind == Some("sse-c") && options.get("AWS_SSE_CUSTOMER_KEY_BASE64").is_none() {
        return wrong(
            "AWS_SERVER_SIDE_ENCRYPTION=sse-c needs AWS_SSE_CUSTOMER_KEY_BASE64, or the same with _FILE"
                .to_owned(),
        );
    }
    let unknown = options
        .with_prefix("AWS_SSE_")
        .find(|(key, _)| !PARTS.iter().any(|(part, _)| part == key));
    match unknown {
        Some((key, _)) => wrong(format!(
            "{key} is not known: there are {}, {} and {}",
            PARTS[0].0, PARTS[1].0, PARTS[2].0
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Lake;

    fn options(pairs: &[(&str, &str)]) -> StoreOptions {
        StoreOptions::from_variables(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn a_secret_may_be_in_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let name = path.to_str().unwrap();
        let given = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY_FILE", name)];
        let open = |more: &[(&str, &str)]| {
            let all = [&given, more].concat();
            Lake::open("s3://b/p", &options(&all))
                .err()
                .map(|error| error.to_string())
        };
        let error = open(&[]).expect("no such file");
        assert!(
            error.contains("AWS_SECRET_ACCESS_KEY_FILE") && error.contains("/secret"),
            "{error}"
        );
        assert!(Lake::open("./here", &options(&given)).is_ok());
        std::fs::write(&path, "hunter2\n").unwrap();
        assert_eq!(open(&[]), None);
        assert_eq!(options(&given).get("AWS_SECRET_ACCESS_KEY"), Some("hunter2"));
        let error = open(&[("AWS_SECRET_ACCESS_KEY", "hunter3")]).expect("two");
        assert!(error.contains("both set") && !error.contains("hunter"), "{error}");
    }

    #[test]
    fn encryption_that_would_not_happen_is_refused() {
        let open = |pairs: &[(&str, &str)]| {
            let keys = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
            let all = [&keys, pairs].concat();
            Lake::open("s3://b/p", &options(&all))
                .err()
                .map(|error| error.to_string())
        };
        let kind = "AWS_SERVER_SIDE_ENCRYPTION";
        let (kms, customer) = ("AWS_SSE_KMS_KEY_ID", "AWS_SSE_CUSTOMER_KEY_BASE64");
        let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        for good in [
            &[(kind, "AES256")][..],
            &[
                (kind, "aws:kms"),
                (kms, "k"),
                ("AWS_SSE_BUCKET_KEY_ENABLED", "true"),
            ],
            &[(kind, "aws:kms")],
            &[(kind, "sse-c"), (customer, key)],
        ] {
            assert_eq!(open(good), None, "{good:?}");
        }
        for (wrong, problem) in [
            (&[(kind, "aes256")][..], "give AES256"),
            (&[(kms, "k")], "needs AWS_SERVER_SIDE_ENCRYPTION=aws:kms"),
            (
                &[(kind, "AES256"), (kms, "k")],
                "needs AWS_SERVER_SIDE_ENCRYPTION=aws:kms",
            ),
            (&[(kind, "sse-c")], "needs AWS_SSE_CUSTOMER_KEY_BASE64"),
            (
                &[(kind, "AES256"), ("AWS_SSE_KEY", "k")],
                "AWS_SSE_KEY is not known",
            ),
        ] {
            let error = open(wrong).expect(problem);
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn options_never_print_values() {
        let text = format!("{:?}", options(&[("AWS_SECRET_ACCESS_KEY", "hunter2")]));
        assert!(!text.contains("hunter2"), "{text}");
    }
}
