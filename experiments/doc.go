// Package experiments says what to run: it reads an experiment (YAML, strict),
// validates it, and turns it into the DAG of stages with their typed parameters
// and fingerprints. Everything here is a pure function of the experiment and
// the digests of its source files; nothing is executed, stored or sent.
//
// The way through the package:
//
//	exp, err := experiments.Load("demo", "dpo.roles.sp.beta=0.3") // preset or path, then overrides
//	sources, err := experiments.SourceDigests(exp, host)           // SHA-256 of corpus and checkpoint files
//	stages, err := experiments.Plan(exp, sources)                  // topological order, fingerprints filled
//
// Prepare goes all of it, and PrepareSweep the same way for a sweep.
package experiments
