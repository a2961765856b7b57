//! `echo`: says what it is told, word by word, with a thought and a tool before: a scripted agent for tests
//! and demos.
//!
//! Its input is a string, or an object:
//!
//! | field | meaning |
//! |---|---|
//! | `text` | what to say |
//! | `words` | how many words to say, over and over (default: as many as it has; at most 100,000) |
//! | `delay_ms` | how long to wait before each word (default 0; at most 60,000) |
//! | `ask` | ask the user this, after the tool, and say the answer before the words |
//! | `choices` | the answers that there are (default: any text) |
//! | `fail` | end with an error of code `asked_to_fail` and this message, after the words |

use crate::worker::{Agent, AgentError, Ask, Out, Output};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

const WORDS_MAX: usize = 100_000;
const DELAY_MS_MAX: u64 = 60_000;

/// The agent.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Script {
    text: String,
    words: Option<usize>,
    #[serde(default)]
    delay_ms: u64,
    ask: Option<String>,
    choices: Option<Vec<String>>,
    fail: Option<String>,
}

impl Agent for Echo {
    fn name(&self) -> &str {
        "echo"
    }

    fn slots(&self) -> usize {
        16
    }

    fn retryable(&self) -> bool {
        true
    }

    fn run(&self, ask: &Ask, out: &mut Out) -> Result<Output, AgentError> {
        let script = Script::read(&ask.input)?;
        for delta in ["I was told something. ", "I shall ", "repeat it."] {
            out.thinking(delta)?;
        }
        let args = json!({ "text": script.text });
        let words = out
            .tool("echo", args, |_call| Ok(script.text.split_whitespace().count()))?
            .map_err(|message| AgentError::failed("tool_failed", message))?;
        if let Some(prompt) = &script.ask {
            let schema = script.choices.as_ref().map(|choices| json!({ "enum": choices }));
            match out.ask(prompt, schema)? {
                Some(Value::String(answer)) => out.output(&format!("{answer}. "))?,
                Some(answer) => out.output(&format!("{answer}. "))?,
                None => out.output("Nobody answered. ")?,
            }
        }
        let wanted = if words == 0 { 0 } else { script.words.unwrap_or(words) };
        for (i, word) in script.text.split_whitespace().cycle().take(wanted).enumerate() {
            out.pause(Duration::from_millis(script.delay_ms))?;
            out.output(&if i == 0 { word.to_owned() } else { format!(" {word}") })?;
        }
        match script.fail {
            Some(message) => Err(AgentError::failed("asked_to_fail", message)),
            None => Ok(Output { output: json!({ "text": out.said(), "words": wanted }), usage: None }),
        }
    }
}

impl Script {
    fn read(input: &Value) -> Result<Self, AgentError> {
        let script = match input.as_str() {
            Some(text) => Self { text: text.to_owned(), ..Self::default() },
            None => Self::deserialize(input).map_err(|error| bad(&error.to_string()))?,
        };
        if script.words.unwrap_or(0) > WORDS_MAX {
            return Err(bad(&format!("`words` may be at most {WORDS_MAX}")));
        }
        if script.delay_ms > DELAY_MS_MAX {
            return Err(bad(&format!("`delay_ms` may be at most {DELAY_MS_MAX}")));
        }
        Ok(script)
    }
}

fn bad(why: &str) -> AgentError {
    AgentError::failed(
        "bad_input",
        format!("expected a string or {{\"text\", words?, delay_ms?, ask?, choices?, fail?}}: {why}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::rehearsal::{rehearse, rehearse_cancelled};

    fn deltas(messages: &[Value]) -> Vec<&str> {
        let output = messages.iter().filter(|m| m["event"] == "agent_output");
        output.map(|m| m["data"]["delta"].as_str().unwrap()).collect()
    }

    #[test]
    fn it_thinks_uses_a_tool_and_repeats() {
        let messages = rehearse(&Echo, json!("good  morning"));
        let events: Vec<&str> = messages.iter().filter_map(|m| m["event"].as_str()).collect();
        assert_eq!(events[..3], ["agent_thinking"; 3]);
        assert_eq!(events[3..], ["tool_executing", "tool_completed", "agent_output", "agent_output"]);
        assert_eq!(deltas(&messages), ["good", " morning"]);
        let end = messages.last().unwrap();
        assert_eq!(
            (&end["status"], &end["output"]),
            (&json!("ok"), &json!({"text": "good morning", "words": 2}))
        );
    }

    #[test]
    fn a_script_says_how_long_and_how_it_ends() {
        let messages = rehearse(&Echo, json!({"text": "a b", "words": 5, "delay_ms": 1, "fail": "as told"}));
        assert_eq!(deltas(&messages), ["a", " b", " a", " b", " a"]);
        let end = messages.last().unwrap();
        assert_eq!((&end["status"], &end["error"]["message"]), (&json!("error"), &json!("as told")));
        assert_eq!(deltas(&rehearse(&Echo, json!({"text": "", "words": 5}))), [""; 0]);
    }

    #[test]
    fn what_it_is_told_wrongly_and_cancels_end_it() {
        for input in [json!(null), json!({}), json!({"text": 1}), json!({"text": "", "words": 1_000_000})] {
            assert_eq!(rehearse(&Echo, input)[0]["error"]["code"], "bad_input");
        }
        let end = rehearse_cancelled(&Echo, json!({"text": "a", "delay_ms": 60_000}));
        assert_eq!((&end[0]["status"], &end[0]["output"]["text"]), (&json!("cancelled"), &json!("")));
    }
}
