package reference

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
)

// Python runs a script with the Python that $ESCLAB_TEST_PYTHON names, which needs the modules that pip installs by
// the given names, and reads what it prints as JSON. Where the variable is not set the test is skipped.
func Python[T any](t testing.TB, pip, script string, stdin []byte, arguments ...string) (answer T) {
	t.Helper()
	python := os.Getenv("ESCLAB_TEST_PYTHON")
	if python == "" {
		t.Skipf("ESCLAB_TEST_PYTHON names no Python to compare with: python3 -m venv DIR && DIR/bin/pip install %s, then ESCLAB_TEST_PYTHON=DIR/bin/python", pip)
	}
	command := exec.CommandContext(t.Context(), python, append([]string{"-B", script}, arguments...)...)
	var said bytes.Buffer
	command.Stdin, command.Stderr = bytes.NewReader(stdin), &said
	data, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v (it needs pip install %s)\n%s", python, script, err, pip, &said)
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		t.Fatalf("%s prints no JSON of the kind that is wanted: %v", script, err)
	}
	return answer
}
