//! Sweeps whose points others run: a table of results, and training APIs that count every question, fail now and then, and take no more
//! than their budget.

mod place;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tiny_http::{Method, Request, Response, Server};

use place::Place;

impl Place {
    /// All that is in a folder, as one text.
    fn everything(&self, folder: &str) -> String {
        let mut open = vec![self.0.path().join(folder)];
        let mut all = String::new();
        while let Some(folder) = open.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
                if entry.path().is_dir() {
                    open.push(entry.path());
                } else {
                    all +=
                        &String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap_or_default());
                }
            }
        }
        all
    }
}

/// A training API in both shapes.
#[derive(Default)]
struct Api {
    /// How often each path was asked.
    asked: BTreeMap<String, usize>,
    /// What was run, each of them paid for.
    runs: Vec<Value>,
    /// FLOPs or seconds that it takes.
    budget: f64,
    used: f64,
    /// Looks at an experiment before it is done.
    looks: BTreeMap<String, usize>,
}

impl Api {
    /// Serves until the test ends; gives the address.
    fn start(budget: f64) -> (String, Arc<Mutex<Self>>) {
        let api = Arc::new(Mutex::new(Self { budget, ..Self::default() }));
        let server = Server::http("127.0.0.1:0").expect("a free port");
        let address = format!("http://{}", server.server_addr());
        let shared = Arc::clone(&api);
        std::thread::spawn(move || {
            for mut request in server.incoming_requests() {
                let (status, body) = shared.lock().expect("nobody fails").answer(&mut request);
                let response = Response::from_string(body.to_string()).with_status_code(status);
                request.respond(response).ok();
            }
        });
        (address, api)
    }

    fn answer(&mut self, request: &mut Request) -> (u16, Value) {
        let url = request.url().to_owned();
        let (path, query) = url.split_once('?').unwrap_or((&url, ""));
        let count = self.asked.entry(path.split_inclusive('/').take(2).collect()).or_insert(0);
        *count += 1;
        let count = *count;
        let header = request.headers().iter().find(|h| h.field.equiv("X-API-Key"));
        if header.is_none_or(|h| h.value.as_str() != "open sesame") {
            return (403, json!({ "detail": "who are you?" }));
        }
        match (request.method(), path) {
            (Method::Get, "/previous_runs") => (200, json!({ "previous_runs": self.runs })),
            (Method::Get, "/total_flops_used") => (200, json!(self.used)),
            (Method::Get, "/loss") => {
                let mut config = json!({});
                for (name, value) in query.split('&').filter_map(|p| p.split_once('=')) {
                    if name != "api_key" {
                        config[name] = value.parse::<f64>().map_or(json!(value), |x| json!(x));
                    }
                }
                if count == 2 {
                    return (500, json!({ "detail": "a hiccup" }));
                }
                if config["d_model"] == json!(512.0) {
                    return (404, json!({ "detail": "d_model must be below 512" }));
                }
                let flops = number(&config, "train_flops");
                if self.used + flops > self.budget {
                    return (422, json!({ "detail": "no queries are left" }));
                }
                self.used += flops;
                config["loss"] = json!(2.0 + 1e3 / number(&config, "d_model") / flops.powf(0.1));
                self.runs.push(config.clone());
                if count == 5 {
                    // It was run, and the answer was lost.
                    return (502, json!("bad gateway"));
                }
                (200, json!({ "loss": config["loss"], "total_flops_used": self.used }))
            }
            (Method::Get, "/budget") => (200, json!({ "remaining": self.budget - self.used })),
            (Method::Get, "/experiments") => (200, json!({ "experiments": self.runs })),
            (Method::Post, "/submit") => {
                let mut text = String::new();
                request.as_reader().read_to_string(&mut text).expect("a body");
                let config: Value = serde_json::from_str(&text).expect("json");
                if self.runs.iter().any(|r| r["config"] == config) {
                    return (409, json!({ "detail": "there is one like it" }));
                }
                let seconds = number(&config, "max_runtime_seconds");
                if self.used + seconds > self.budget {
                    return (400, json!({ "detail": "over budget" }));
                }
                self.used += seconds;
                let id = format!("e{}", self.runs.len());
                self.runs.push(json!({ "id": id, "config": config, "status": "running" }));
                if count == 2 {
                    return (503, json!("try later"));
                }
                (200, json!({ "experiment_id": id, "status": "queued" }))
            }
            (Method::Get, path) if path.starts_with("/experiment/") => {
                let id = path.trim_start_matches("/experiment/").to_owned();
                let looks = self.looks.entry(id.clone()).or_insert(0);
                *looks += 1;
                let looks = *looks;
                let Some(run) = self.runs.iter_mut().find(|r| r["id"] == json!(id)) else {
                    return (404, json!({ "detail": "no such experiment" }));
                };
                if looks > 1 {
                    let size = run["config"]["architecture"]["hidden_size"].as_f64().unwrap_or(0.0);
                    if size == 96.0 {
                        run["status"] = json!("failed");
                        run["error"] = json!("out of memory");
                    } else {
                        run["status"] = json!("completed");
                        run["result"] = json!({ "final_val_loss": 2.0 + 50.0 / size });
                    }
                }
                (200, run.clone())
            }
            _ => (404, json!({ "detail": "no such page" })),
        }
    }

    fn asked(&self, path: &str) -> usize {
        self.asked.get(path).copied().unwrap_or(0)
    }
}

fn number(row: &Value, column: &str) -> f64 {
    row[column].as_f64().expect("a number")
}

/// How often a path was asked, and how much was run.
fn counts(api: &Mutex<Api>, path: &str) -> (usize, usize) {
    let api = api.lock().expect("nobody fails");
    (api.asked(path), api.runs.len())
}

#[test]
fn a_table_of_results_answers_for_the_points() {
    let place = Place::new(
        r#"
sweep known {
  for C in [6e18, 1e19] FLOPs, for N in [1e8, 3e8]
  runner = recorded("results.csv", gives = { loss = .final_loss, params = .parameters, tokens = .compute_budget / (6 * .parameters) })
  run = { compute_budget = C, parameters = N }
  order = cheapest_first
}
let chosen = known.best.N
"#,
    );
    let table = "compute_budget,parameters,final_loss,note\n6e18,1e8,3.1,a\n6e18,3e8,3.0,b\n1e19,3e8,2.9,c\n";
    std::fs::write(place.0.path().join("results.csv"), table).expect("written");
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("known/02: failed [E0880]"), "{text}");
    assert!(text.contains("no row with compute_budget = 1e19, parameters = 1e8"), "{text}");
    std::fs::write(
        place.0.path().join("results.csv"),
        format!("{table}1e19,1e8,3.05,d\n1e19,1e8,3.06,e\n"),
    )
    .expect("written");
    let (_, text) = place.run(&["run", "a.cs336"]);
    assert!(text.contains("2 rows with compute_budget = 1e19"), "{text}");
    std::fs::write(place.0.path().join("results.csv"), format!("{table}1e19,1e8,3.05,d\n"))
        .expect("written");
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    let rows = place.rows("known |> sort_by(.loss)");
    let losses: Vec<f64> = rows.iter().filter_map(|r| r["loss"].as_f64()).collect();
    assert_eq!(losses, [2.9, 3.0, 3.05, 3.1]);
    assert_eq!(number(&rows[0], "params"), 3e8);
    assert_eq!(number(&rows[0], "C"), 1e19);
    let (_, text) = place.run(&["plan", "a.cs336"]);
    assert!(text.contains("4 of 4 points done"), "{text}");
}

fn bought(url: &str, total: &str) -> String {
    format!(
        r#"
sweep bought {{
  for C in [1e15, 3e15] FLOPs, for d in [64, 128, 256]
  runner = http("{url}", api = "loss", key = "TRAINING_KEY", gives = {{ params = 12 * .num_layers * .d_model^2 }})
  run = {{ d_model = d, num_layers = 4, learning_rate = 1e-3, train_flops = C }}
  cost = C
  best = .loss
  total = {total}
}}
"#
    )
}

#[test]
fn an_api_is_paid_once_for_each_point() {
    let (url, api) = Api::start(2e16);
    let place = Place::new(&bought(&url, "1.2e16 FLOPs"));
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    // Six points, one that was not run at first, one whose answer was lost and is found in the list.
    assert_eq!(counts(&api, "/loss"), (7, 6));
    let rows = place.rows("bought |> sort_by(.loss)");
    assert_eq!(rows.len(), 6);
    assert_eq!((number(&rows[0], "params"), number(&rows[0], "flops")), (3145728.0, 3e15));
    assert_eq!(number(&rows[0], "d_model"), 256.0);
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(text.matches("is there already").count(), 6, "{text}");
    assert_eq!(api.lock().expect("fine").asked("/loss"), 7);
    // Another ledger finds what was paid for in the list of the API.
    let (exit, text) = place.run(&["run", "a.cs336", "--runs", "other"]);
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(api.lock().expect("fine").asked("/loss"), 7);
    // Other figures from the same answers cost nothing.
    let program = bought(&url, "1.2e16 FLOPs").replace("12 * .num_layers", "24 * .num_layers");
    std::fs::write(place.0.path().join("a.cs336"), program).expect("written");
    place.run(&["run", "a.cs336"]);
    assert_eq!(number(&place.rows("bought |> sort_by(.loss)")[0], "params"), 6291456.0);
    assert_eq!(api.lock().expect("fine").asked("/loss"), 7);
    let secret = ["runs", "other", "cache"].iter().any(|f| place.everything(f).contains("sesame"));
    assert!(!secret && !text.contains("sesame"), "the key is written down");
}

#[test]
fn what_an_api_charges_counts_whatever_the_program_says() {
    let (url, api) = Api::start(2e16);
    let program = bought(&url, "6e15 FLOPs").replace("cost = C\n", "cost = C / 2\n");
    let place = Place::new(&program);
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(3), "{text}");
    assert!(text.contains("was charged 1.000e15 FLOPs, and its `cost` says 5.000e14"), "{text}");
    // Three of 1e15 and one of 3e15 are all that the total allows; one of their answers was lost on the way.
    assert_eq!(api.lock().expect("fine").runs.len(), 4, "{text}");
    // It is remembered.
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(3), "{text}");
    assert_eq!(api.lock().expect("fine").runs.len(), 4, "{text}");
}

#[test]
fn an_api_that_takes_no_more_is_left_alone() {
    let (url, api) = Api::start(4.5e15);
    let place = Place::new(&bought(&url, "1.2e16 FLOPs"));
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(3), "{text}");
    assert!(text.contains("E0881") && text.contains("no queries are left"), "{text}");
    assert_eq!(api.lock().expect("fine").runs.len(), 3);
    // What was answered is kept.
    assert_eq!(place.rows("bought |> keep(.status == \"done\")").len(), 3);
    // More than the program allows is not even begun.
    let (exit, text) = place.run(&["check", "a.cs336", "--set", "bought.total=1e16 FLOPs"]);
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("E0501"), "{text}");
}

#[test]
fn a_point_that_an_api_refuses_does_not_stop_the_others() {
    let (url, _api) = Api::start(2e16);
    let place = Place::new(&bought(&url, "2e16 FLOPs").replace("256", "512"));
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("bought/02: failed [E0882]") && text.contains("below 512"), "{text}");
    assert_eq!(text.matches(": done").count(), 4, "{text}");
}

#[test]
fn runs_that_are_submitted_are_waited_for_and_found_again() {
    let (url, api) = Api::start(1000.0);
    let program = format!(
        r#"
sweep queue {{
  for size in [32, 64, 96, 128]
  runner = http("{url}", api = "submit", key = "TRAINING_KEY", gives = {{ valid_loss = .final_val_loss }})
  run = {{ architecture = {{ hidden_size = size }}, max_runtime_seconds = 100 }}
  cost = 100 s
  total = 400 s
}}
"#
    );
    let place = Place::new(&program);
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("queue/02: failed [E0882]") && text.contains("out of memory"), "{text}");
    assert_eq!(place.rows("queue |> keep(.valid_loss < 10)").len(), 3);
    // Four were submitted, one of them with an answer that was lost.
    assert_eq!(counts(&api, "/submit"), (4, 4));
    // Another ledger: all are in the list of the API.
    let (_, text) = place.run(&["run", "a.cs336", "--runs", "other"]);
    assert_eq!(text.matches(": done").count(), 3, "{text}");
    assert_eq!(api.lock().expect("fine").asked("/submit"), 4);
    // To try the failed one again would cost more than `total` has left.
    let (exit, text) = place.run(&["run", "a.cs336", "--retry", "failed"]);
    assert_eq!(exit, Some(3), "{text}");
    assert!(text.contains("E0881") && text.contains("are spent"), "{text}");
}

#[test]
fn a_search_asks_an_api_for_what_it_draws() {
    let (url, api) = Api::start(1e17);
    let program = format!(
        r#"
sweep drawn {{
  for d in log_uniform(32, 400)
  for layers in [2, 4]
  let width = floor(d)
  runner = http("{url}", api = "loss", key = "TRAINING_KEY")
  run = {{ d_model = width, num_layers = layers, train_flops = 1e15 }}
  cost = 1e15 FLOPs
  search = tpe(minimize = .loss, points = 12, startup = 6, batch = 3)
  total = 1.2e16 FLOPs
}}
let best = drawn.best.d
"#
    );
    let place = Place::new(&program);
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(counts(&api, "/loss").1, 12);
    let rows = place.rows("drawn |> sort_by(.loss)");
    assert_eq!(rows.len(), 12);
    // The best of them was drawn from what the first six gave.
    assert!(rows[0]["name"].as_str() >= Some("drawn/06"), "{}", rows[0]);
    // One that begins with nothing but the list of the API goes the same way and pays nothing.
    std::fs::remove_dir_all(place.0.path().join("cache")).expect("facts were learned");
    let (exit, text) = place.run(&["run", "a.cs336", "--runs", "other"]);
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(counts(&api, "/loss").1, 12);
}

#[test]
fn a_table_may_be_json_or_parquet() {
    let program = |table: &str| {
        format!(
            r#"
sweep known {{
  for N in [1e8, 3e8]
  runner = recorded("{table}")
  run = {{ parameters = N, kind = "dense" }}
  best = .loss
}}
"#
        )
    };
    let place = Place::new(&program("results.jsonl"));
    let rows = "{\"parameters\":1e8,\"kind\":\"dense\",\"loss\":3.5}\n{\"parameters\":3e8,\"kind\":\"moe\",\"loss\":3.1}\n{\"parameters\":3e8,\"kind\":\"dense\",\"loss\":3.2}\n";
    std::fs::write(place.0.path().join("results.jsonl"), rows).expect("written");
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    let losses = |place: &Place| -> Vec<f64> {
        place.rows("known |> sort_by(.loss)").iter().map(|r| number(r, "loss")).collect()
    };
    assert_eq!(losses(&place), [3.2, 3.5]);
    let out = [
        "query",
        "known |> select(parameters = .parameters, kind = .kind, loss = .loss)",
        "--file",
        "a.cs336",
        "--out",
        "results.parquet",
    ];
    let (exit, text) = place.run(&out);
    assert_eq!(exit, Some(0), "{text}");
    std::fs::write(place.0.path().join("a.cs336"), program("results.parquet")).expect("written");
    let (exit, text) = place.run(&["run", "a.cs336", "--runs", "runs"]);
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(losses(&place), [3.2, 3.5]);
}

#[test]
fn without_a_key_nothing_is_asked() {
    let (url, api) = Api::start(2e16);
    let place = Place::new(&bought(&url, "1.2e16 FLOPs").replace("TRAINING_KEY", "NO_SUCH_KEY"));
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(3), "{text}");
    assert!(text.contains("E0883") && text.contains("NO_SUCH_KEY"), "{text}");
    assert!(api.lock().expect("fine").asked.is_empty());
}
