//! budget-stop's wiring: settings, clients, and the loop that Lambda wants.

use std::env;

use budget_stop::config::Config;
use budget_stop::run::{Clients, handle};
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use tracing::{Level, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

// One thread: the function waits for AWS, and a 128 MB Lambda has a twelfth of a processor.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    // Lambda's log has a time for each line, and its own lines say which invocation it is.
    let lines = tracing_subscriber::fmt::layer().without_time().with_target(false).with_ansi(false);
    let own =
        Targets::new().with_targets(["budget_stop", "bootstrap"].map(|name| (name, Level::INFO)));
    tracing_subscriber::registry().with(lines).with(own).init();
    let look_up = |name: &str| env::var(name).ok();
    let config = Config::read(look_up)?;
    let clients = Clients::new(look_up)?;
    lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| {
        let deadline = event.context.deadline();
        let answer = handle(&clients, &config, &event.payload, deadline).await;
        answer.map_err(|failed| {
            let why = format!("{failed:#}");
            error!("{why}");
            Error::from(why)
        })
    }))
    .await
}
