//! Sessions that answer token ids.

use std::sync::Arc;

use sage::core::core_loop::Answer;
use sage::core::request::{Request, RequestContent, Stop};
use sage::core::speech::CollectedTurn;
use sage::session::opening::EngineOptions;
use sage::session::{Session, SessionPlan};
use sage::store::WeightSource;

/// A session of an engine that is opened so.
pub async fn open(source: Arc<dyn WeightSource>, options: EngineOptions) -> Session {
    let plan = SessionPlan::of_engine(options);
    let session = Session::open(source, plan, |_, _| ()).await;
    session.expect("a session")
}

/// A request of token ids, answered by at most so many others.
pub fn request(tokens: Vec<u32>, max_tokens: usize) -> Request {
    let content = RequestContent::Tokens {
        media: Vec::new(),
        tokens,
    };
    Request {
        max_tokens: Some(max_tokens),
        stop: Stop::Never,
        unmeasured: true,
        ..Request::new("test", content)
    }
}

/// The answer to a request.
pub async fn answer(session: &mut Session, request: Request) -> Answer {
    let answered = session.answer(request, None, &mut |_| true).await;
    answered.expect("an answer").0
}

/// What a talker hears of a request and its answer.
pub async fn said(session: &mut Session, request: Request) -> CollectedTurn {
    let answer = answer(session, request).await;
    session.last_turn(answer.prompt_tokens).expect("a voice")
}
