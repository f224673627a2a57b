//! One connection pool, and a client for each service and region.
//!
//! The environment is Lambda's own: its role's keys and region. `aws-config` would look for them in
//! a dozen other places, at every cold start.
//! <https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html>

use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;

/// A listing of a thousand instances takes some seconds; what takes this long is not answering.
const CALL_AT_MOST: Duration = Duration::from_secs(20);
const CONNECT_AT_MOST: Duration = Duration::from_secs(5);

/// What every client is made of.
#[derive(Clone)]
pub struct Clients {
    config: SdkConfig,
}

impl Clients {
    /// Reads the environment through `look_up`.
    ///
    /// `AWS_ENDPOINT_URL` is honoured as by every SDK. Fails on what is missing, and names it.
    pub fn new(look_up: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let text = |name: &str| look_up(name).with_context(|| format!("{name} is not set"));
        let credentials = Credentials::new(
            text("AWS_ACCESS_KEY_ID")?,
            text("AWS_SECRET_ACCESS_KEY")?,
            look_up("AWS_SESSION_TOKEN"),
            None,
            "environment",
        );
        // Retries are ours: they must know of the run's deadline, and of whom a call is for.
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(text("AWS_REGION")?))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(
                Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https(),
            )
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_AT_MOST)
                    .operation_attempt_timeout(CALL_AT_MOST)
                    .build(),
            );
        config.set_endpoint_url(look_up("AWS_ENDPOINT_URL"));
        Ok(Self { config: config.build() })
    }

    fn of_region(&self, region: &str) -> SdkConfig {
        self.config.to_builder().region(Region::new(region.to_owned())).build()
    }

    pub(crate) fn budgets(&self) -> aws_sdk_budgets::Client {
        aws_sdk_budgets::Client::new(&self.config)
    }

    pub(crate) fn sns(&self) -> aws_sdk_sns::Client {
        aws_sdk_sns::Client::new(&self.config)
    }

    /// EC2 in the function's own region.
    pub(crate) fn home(&self) -> aws_sdk_ec2::Client {
        aws_sdk_ec2::Client::new(&self.config)
    }

    pub(crate) fn ec2(&self, region: &str) -> aws_sdk_ec2::Client {
        aws_sdk_ec2::Client::new(&self.of_region(region))
    }

    pub(crate) fn auto_scaling(&self, region: &str) -> aws_sdk_autoscaling::Client {
        aws_sdk_autoscaling::Client::new(&self.of_region(region))
    }

    pub(crate) fn tagging(&self, region: &str) -> aws_sdk_resourcegroupstagging::Client {
        aws_sdk_resourcegroupstagging::Client::new(&self.of_region(region))
    }
}
