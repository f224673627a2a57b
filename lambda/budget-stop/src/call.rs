//! The one place that calls AWS: each call ends by the deadline, and each failure has a kind.

use std::time::Duration;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::info;

use crate::decide::failure::{Failure, Kind, pause_at_most};

/// Calls once.
pub(crate) async fn once<T, E>(
    deadline: Instant,
    call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match timeout_at(deadline, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failure(error)),
        Err(_) => Err(out_of_time()),
    }
}

/// Calls until an answer is final, or the deadline is near. Only for what may be done twice.
pub(crate) async fn retried<T, E>(
    deadline: Instant,
    call: impl AsyncFn() -> Result<T, SdkError<E, HttpResponse>>,
) -> Result<T, Failure>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let mut tries = 0;
    loop {
        let failure = match once(deadline, call()).await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        tries += 1;
        let Some(most) = pause_at_most(failure.kind, tries) else {
            return Err(failure);
        };
        if !pause(deadline, most).await {
            return Err(failure);
        }
    }
}

/// Pauses for a random part of `most`. False if that is past the deadline: then it does not pause.
pub(crate) async fn pause(deadline: Instant, most: Duration) -> bool {
    let until = Instant::now() + most.mul_f64(fastrand::f64());
    if until >= deadline {
        return false;
    }
    sleep_until(until).await;
    true
}

/// What is said of what was not done because the run's time was over.
pub(crate) fn out_of_time() -> Failure {
    Failure::unanswered(Kind::OutOfTime, "this run's time was over; the next one goes on")
}

fn failure<E>(error: SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match &error {
        SdkError::ServiceError(answer) => {
            let status = answer.raw().status().as_u16();
            Failure::answered(answer.err().code(), answer.err().message(), status)
        }
        SdkError::TimeoutError(_) => Failure::unanswered(Kind::Silent, "AWS does not answer"),
        SdkError::DispatchFailure(_) => {
            let why = format!("no connection to AWS: {}", DisplayErrorContext(&error));
            info!("{why}");
            Failure::unanswered(Kind::Silent, "no connection to AWS")
        }
        SdkError::ResponseError(_) => {
            Failure::unanswered(Kind::Broken, "the answer of AWS broke off or cannot be read")
        }
        other => {
            let why = DisplayErrorContext(other).to_string();
            Failure { kind: Kind::Refused, code: String::new(), message: why }
        }
    }
}
