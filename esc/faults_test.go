package esc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFaults: all that is wrong with a corpus is told at once, each with its place.
func TestFaults(t *testing.T) {
	good := dialogOf(utterance("seeker", "", "Hi."), utterance("supporter", "Question", "How are you?"))
	speaker := dialogOf(utterance("seeker", "", "Hi."), utterance("narrator", "", "He waits."))
	empty := `{"emotion_type": "sadness"}`
	for name, text := range map[string]string{
		"array.json":  "[" + strings.Join([]string{good, speaker, good, empty}, ",\n") + "]",
		"lines.jsonl": strings.ReplaceAll(strings.Join([]string{good, speaker, good, empty}, "\x00"), "\n", " "),
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "\x00", "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		faults, more, err := Faults(path, Reading{}, 10)
		if err != nil || more != 0 || len(faults) != 2 {
			t.Fatalf("%s: %v and %d more, %v; want two faults", name, faults, more, err)
		}
		for i, want := range []int{1, 3} {
			var fault *DataError
			if !errors.As(faults[i], &fault) || fault.Dialogue != want {
				t.Errorf("%s: fault %d is %v, want it of dialogue %d", name, i, faults[i], want)
			}
		}
		if faults, more, _ := Faults(path, Reading{}, 1); len(faults) != 1 || more != 1 {
			t.Errorf("%s, one at most: %v and %d more", name, faults, more)
		}
	}
	path := filepath.Join(t.TempDir(), "torn.json")
	if err := os.WriteFile(path, []byte("["+speaker+`, {"dialog`), 0o600); err != nil {
		t.Fatal(err)
	}
	if faults, _, err := Faults(path, Reading{}, 10); err != nil || len(faults) != 2 || !strings.Contains(errors.Join(faults...).Error(), "after 1 dialogues: unexpected EOF") {
		t.Errorf("a torn file: %v, %v; want the dialogue's fault and where it is torn", faults, err)
	}
}
