// Package reference finds the data that tests compare with: what stands in a directory shared beside the repository
// and is not part of it.
package reference

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Path returns a file or directory of the reference data, or skips the test where it is absent. Tests run in their
// package's directory, so the repository's root is the nearest directory above that has a go.mod.
func Path(t testing.TB, elem ...string) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for !exists(filepath.Join(root, "go.mod")) {
		above := filepath.Dir(root)
		if above == root {
			t.Fatal("no directory above the test has a go.mod: run it inside the repository")
		}
		root = above
	}
	path := filepath.Join(append([]string{root, "..", "shared"}, elem...)...)
	if !exists(path) {
		t.Skipf("reference data ../shared/%s is absent", filepath.Join(elem...))
	}
	return path
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// JSON reads a JSON file as a T.
func JSON[T any](t testing.TB, path string) (value T) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return value
}

// A Turn is one message of a dialogue, by "user" (the seeker) or "assistant" (the supporter).
type Turn struct{ Role, Content string }

// Dialogues returns the dialogues of one of ESConv's splits ("train.json").
func Dialogues(t testing.TB, split string) [][]Turn {
	t.Helper()
	type dialogue struct {
		Dialog []struct {
			Speaker string `json:"speaker"`
			Content string `json:"content"`
		} `json:"dialog"`
	}
	var chats [][]Turn
	for _, d := range JSON[[]dialogue](t, Path(t, "esconv", split)) {
		var chat []Turn
		for _, u := range d.Dialog {
			role := "user"
			if u.Speaker != "seeker" && u.Speaker != "usr" {
				role = "assistant"
			}
			chat = append(chat, Turn{role, u.Content})
		}
		chats = append(chats, chat)
	}
	return chats
}

// Contents returns the texts of dialogues' turns, in order.
func Contents(dialogues [][]Turn) []string {
	var texts []string
	for _, chat := range dialogues {
		for _, turn := range chat {
			texts = append(texts, turn.Content)
		}
	}
	return texts
}

// smolLM2 is the file that `make smollm2` fetches.
const smolLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"

// SmolLM2 returns SmolLM2-135M-Instruct as a GGUF file, where `make smollm2` has put it, or skips the test.
func SmolLM2(t testing.TB) string {
	t.Helper()
	models := os.Getenv("ESCLAB_MODELS")
	if cache, err := os.UserCacheDir(); models == "" && err == nil {
		models = filepath.Join(cache, "esclab", "models")
	}
	path := filepath.Join(models, smolLM2)
	if !exists(path) {
		t.Skipf("%s is absent: get it with `make smollm2` (94 MB)", path)
	}
	return path
}
