package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheck: all that is wrong with a corpus is told at once, a plan ends as the check
// does, and nothing is made.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	good := `{"dialog":[{"speaker":"seeker","content":"Hi."},{"speaker":"supporter","content":"How are you?","annotation":{"strategy":"Question"}}]}`
	corpus := filepath.Join(dir, "mine.jsonl")
	bad := []string{good, strings.Replace(good, `"supporter"`, `"narrator"`, 1), good, `{"dialog":[]}`, good}
	if err := os.WriteFile(corpus, []byte(strings.Join(bad, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	say := func(code int, args []string, want ...string) {
		t.Helper()
		c, log := esclab(t, t.Context(), append(args, "--set", "corpus.source="+corpus, "--data", data)...)
		_ = c.Run() // the exit code is looked at
		if got := c.ProcessState.ExitCode(); got != code {
			t.Errorf("esclab %s: exit code %d, want %d\n%s", args[0], got, code, log)
		}
		for _, w := range want {
			if !strings.Contains(log.String(), w) {
				t.Errorf("esclab %s does not say %q:\n%s", args[0], w, log)
			}
		}
	}
	check, plan := []string{"check", "demo"}, []string{"run", "demo", "--plan"}
	say(exitFailed, check, "mine.jsonl: dialogue 1, turn 1", "mine.jsonl: dialogue 3", "esclab: 2 faults")
	say(exitFailed, plan, "stages: 0 to reuse, ", "check: "+corpus+": dialogue 1, turn 1", "esclab: 2 faults: ", "; more by: esclab check demo --set corpus.source="+corpus)
	lines := strings.Repeat(good+"\n", 20)
	if err := os.WriteFile(corpus, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	say(exitOK, check, "corpus: 20 dialogues, 20 turns of the supporter; strategies: Question 20", "the base stage makes the tokenizer", "time: unknown", "nothing is wrong")
	say(exitOK, plan, "check: nothing is wrong")
	if _, err := os.Stat(data); err == nil {
		t.Error("esclab check made the data directory")
	}
}
