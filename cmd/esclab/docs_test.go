package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// parsed are the commands of the documentation that cannot be run in a test, by the
// reason. Their commands, arguments and flags are parsed. A command that is in no
// document fails the test, so that the list stays true.
var parsed = map[string][]string{
	"trains for minutes": {
		"bin/esclab run demo", "bin/esclab run demo --set seeds=1,2,3", "bin/esclab sweep demo-sweep",
		"esclab run demo", "esclab run demo --report out/", "esclab run demo --detach", "esclab sweep mine.yaml",
		"esclab run demo --data D && esclab bench dag demo --data D",
	},
	"needs a corpus that is not in the repository": {
		"bin/esclab run tiny-esconv", "esclab compare demo tiny-esconv --metrics all",
		`esclab schedule create nightly --experiment tiny-esconv --cron "0 22 * * *"`, "esclab schedule trigger nightly",
		"esclab schedule show nightly", "esclab schedule show nightly --night last",
		`esclab bench lm --corpus path/to/esconv --workloads sp-sft,rg-sft,sp-dpo,rg-dpo,vm-dpo --dialogues 100 --max-tokens 1024 --batch 8 --steps 3 --rounds 3 --packing both --engine go --peer "python3 ../shared/bench/torch_reference.py"`,
		`esclab bench lm --corpus path/to/esconv --workloads equal --batch 8 --rounds 5 --engine go --peer "$PEER"`,
		`esclab bench lm --corpus path/to/esconv --workloads equal --batch 8 --rounds 5 --engine go --rank 0 --peer "$PEER"`,
		`esclab bench lm --corpus path/to/esconv --workloads generate --slots 16 --new 64 --rounds 5 --engine go --peer "$PEER"`,
		"esclab bench lm --corpus path/to/esconv --workloads sp-generate,sp-score,vm-generate --packing both --rounds 3 --engine go",
		"esclab bench lm --corpus path/to/esconv --dialogues 0 --split test --tokenizer path/to/tokenizer --max-tokens 4096 --prepare-only",
		"esclab bench lm --corpus path/to/esconv --config path/to/SmolLM2-135M-Instruct --engine go --dtype bfloat16 --dialogues 20 --batch 8 --workloads equal --length 256 --steps 2",
		"esclab bench lm --corpus path/to/esconv --config path/to/SmolLM2-135M-Instruct --engine go --dtype bfloat16 --dialogues 20 --batch 8 --workloads rg-dpo,sp-sft --steps 2",
		"esclab bench lm --corpus path/to/esconv --config path/to/SmolLM2-135M-Instruct --engine go --dtype bfloat16 --dialogues 20 --workloads generate --slots 1,16 --prompt-tokens 256 --new 64",
	},
	"needs a model from the network": {
		"bin/esclab run qwen2.5-7b --set backbone.path=path/to/Qwen2.5-7B-Instruct --set judge.kind=offline",
		"bin/esclab model get ORG/NAME", "bin/esclab model get HuggingFaceTB/SmolLM2-135M-Instruct",
		"bin/esclab run smollm2-135m --plan", "bin/esclab run smollm2-135m", "bin/esclab run smollm2-135m --set backbone.path=$(make -s smollm2)",
	},
	"needs a GPU": {
		"esclab chat qwen2.5-7b --system decoupled/sft --engine xla:cuda",
		`esclab bench lm --engine xla:cuda --config internal/bench/gpu/qwen2.5-0.5b/config.json --dtype bfloat16 --batch 16 --dialogues 20 --steps 5 --workloads equal --length 512 --peer "python3 internal/bench/gpu/peer.py"`,
		"esclab bench lm --engine xla:cuda --workloads sp-sft,vm-dpo,vm-generate --batch 16 --dialogues 20 --steps 5",
	},
	"opens a browser": {"bin/esclab ui demo --open"},
	"names somebody's runs": {
		"esclab compare demo/0da221080876 demo/5c1f0e9a7b31 --md > table.md", "esclab diff demo/0da221080876 demo/5c1f0e9a7b31",
		"esclab compare --sweep betas --system decoupled/dpo --sort B",
	},
	"needs sheets that people have filled": {
		"esclab human import human/key.json anna.csv ben.csv carl.csv", "esclab human import human/key.json anna.csv ben.csv carl.csv --json > figure6.json",
		"esclab report demo --human figure6.json --out r/",
	},
	"works until it is stopped": {
		"esclab worker", "esclab worker --queues gpu --slots 2", "esclab worker --queues control,cpu", "esclab worker --promote",
	},
}

// foreign are commands of the documentation that are not even parsed, by the reason.
var foreign = map[string][]string{
	"another program": {
		"tensorboard --logdir ~/.local/share/esclab/logs", "tensorboard --logdir demo-export/tensorboard",
		`temporal --address 127.0.0.1:7233 --tls=false --api-key "$(cat ~/.local/share/esclab/temporal-key)" workflow list`,
		"esclab-worker --queues gpu --metrics 127.0.0.1:9464", "curl -s http://127.0.0.1:9464/metrics | grep esclab_",
	},
	"it runs this test": {".ci/run"},
}

// TestDocumentedCommands runs every command in the sh blocks of the documentation
// against one small finished run, in a directory of its own, but for those that are
// only parsed. Of make the targets are looked up, of go test the packages and tests.
func TestDocumentedCommands(t *testing.T) {
	if testing.Short() {
		t.Skip("runs part of the DAG and many commands")
	}
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	up, upLog := esclab(t, ctx, "up", "--data", data)
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(up.Process.Signal(os.Interrupt), up.Wait()); err != nil {
			t.Errorf("esclab up: %v\n%s", err, upLog)
		}
	}()
	env := append(slices.DeleteFunc(up.Environ(), func(v string) bool { return strings.HasPrefix(v, envMain+"=") }),
		"ESCLAB_DATA_DIR="+data, "HOME="+dir, "PATH="+filepath.Join(dir, "work", "bin")+":/usr/bin:/bin")
	for name, mode := range map[string]string{"esclab": "${ESCLAB_TEST_DOCS:-1}", "make": "make", "go": "go"} {
		writeProgram(t, filepath.Join(dir, "work", "bin", name), fmt.Sprintf("#!/bin/sh\n%s=%s exec '%s' \"$@\"\n", envMain, mode, os.Args[0]))
	}
	work := filepath.Join(dir, "work")
	script := func(in, text string) (string, error) {
		c := exec.CommandContext(ctx, "bash", "-e", "-o", "pipefail", "-c", text)
		c.Dir, c.Env = in, env
		said, err := c.CombinedOutput()
		return string(said), err
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	env = append(env, envSources+"="+root)
	for _, prepare := range []string{
		"until [[ $(esclab status demo 2>&1 || true) == *'there is no run'* ]]; do sleep 0.1; done", // it is up
		"esclab run '" + root + "/cmd/esclab/testdata/micro.yaml' --set name=demo --set 'methods=[sft,dpo]'",
		"esclab export demo --out ready && cp ready/predictions/decoupled-dpo.jsonl predictions.jsonl",
	} {
		if said, err := script(work, prepare); err != nil {
			t.Fatalf("%s: %v\n%s\n%s", prepare, err, said, upLog)
		}
	}
	used := map[string]bool{}
	documents, err := filepath.Glob(root + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append([]string{root + "/README.md", root + "/CONTRIBUTING.md"}, documents...) {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		here := filepath.Join(dir, filepath.Base(path)) // as a reader who begins here
		if err := errors.Join(os.Mkdir(here, 0o755), os.Symlink(filepath.Join(work, "bin"), filepath.Join(here, "bin")),
			os.Symlink(filepath.Join(work, "predictions.jsonl"), filepath.Join(here, "predictions.jsonl"))); err != nil {
			t.Fatal(err)
		}
		for i, block := range shellBlocks(string(raw)) {
			if strings.Contains(block, "openssl ") {
				if _, err := exec.LookPath("openssl"); err != nil {
					t.Logf("%s, block %d: not run, there is no openssl here", filepath.Base(path), i+1)
					continue
				}
			}
			began := time.Now()
			if said, err := script(here, runnable(block, used)); err != nil {
				t.Errorf("%s, block %d: %v\n%s\n%s", filepath.Base(path), i+1, err, block, said)
			}
			t.Logf("%s, block %d: %.1f s", filepath.Base(path), i+1, time.Since(began).Seconds())
		}
	}
	for _, lists := range []map[string][]string{parsed, foreign} {
		for reason, commands := range lists {
			for _, c := range commands {
				if !used[c] {
					t.Errorf("no document has the command that is listed under %q: %s", reason, c)
				}
			}
		}
	}
}

func writeProgram(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
		t.Fatal(err)
	}
}

// shellBlocks are the texts of a document's sh blocks, continued lines joined.
func shellBlocks(markdown string) (blocks []string) {
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(markdown, -1) {
		blocks = append(blocks, regexp.MustCompile(`\\\n\s*`).ReplaceAllString(m[1], ""))
	}
	return blocks
}

// runnable is a block as a test runs it: listed commands are parsed or left out. It
// notes those that it meets.
func runnable(block string, used map[string]bool) string {
	var out strings.Builder
	for line := range strings.Lines(block) {
		command, _, _ := strings.Cut(line, " #")
		command = strings.TrimSpace(command)
		switch {
		case listed(foreign, command):
			used[command] = true
		case listed(parsed, command):
			used[command] = true
			fmt.Fprintf(&out, "(export ESCLAB_TEST_DOCS=parse; %s)\n", command)
		default:
			out.WriteString(line)
		}
	}
	return out.String()
}

func listed(lists map[string][]string, command string) bool {
	for _, commands := range lists {
		if slices.Contains(commands, command) {
			return true
		}
	}
	return false
}

// envSources tells the programs that stand for make and go where the sources are.
const envSources = "ESCLAB_TEST_SOURCES"

// documented checks a command line of the documentation: of esclab itself, of make
// or of go.
func documented(program string, args []string) error {
	switch program {
	case "parse":
		return parseOnly(args)
	case "make":
		return makeHas(args)
	}
	return goHas(args)
}

// parseOnly checks a command line of esclab up to the point where it would run.
func parseOnly(args []string) error {
	c, rest, err := (&app{}).root().Find(args)
	if err != nil {
		return err
	}
	if err := c.ParseFlags(rest); err != nil {
		return err
	}
	if !c.Runnable() {
		return fmt.Errorf("%s does nothing by itself", c.CommandPath())
	}
	return errors.Join(c.ValidateRequiredFlags(), c.ValidateFlagGroups(), c.ValidateArgs(c.Flags().Args()))
}

// makeHas checks that the targets are there.
func makeHas(args []string) error {
	makefile, err := os.ReadFile(filepath.Join(os.Getenv(envSources), "Makefile"))
	if err != nil {
		return err
	}
	for _, target := range args {
		if strings.HasPrefix(target, "-") || strings.Contains(target, "=") {
			continue
		}
		if !bytes.Contains(makefile, []byte("\n"+target+":")) {
			return fmt.Errorf("make has no target %s", target)
		}
	}
	return nil
}

// goHas checks that a go test's packages are there, and that they have functions
// that -run, -bench and -fuzz choose.
func goHas(args []string) error {
	if args[0] != "test" {
		return nil // go tool pprof reads what a test has written
	}
	var packages, wanted []string
	for i, arg := range args {
		switch {
		case strings.HasPrefix(arg, "./"):
			packages = append(packages, strings.TrimSuffix(arg, "/..."))
		case (arg == "-run" || arg == "-bench" || arg == "-fuzz") && args[i+1] != "^$":
			wanted = append(wanted, args[i+1])
		}
	}
	for _, dir := range packages {
		files, err := filepath.Glob(filepath.Join(os.Getenv(envSources), dir, "*_test.go"))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("%s has no tests (%v)", dir, err)
		}
		var functions []string
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w+)\(`).FindAllStringSubmatch(string(raw), -1) {
				functions = append(functions, m[1])
			}
		}
		for _, pattern := range wanted {
			first, _, _ := strings.Cut(pattern, "/") // of subtests, the test
			re, err := regexp.Compile(first)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(functions, re.MatchString) {
				return fmt.Errorf("%s has no test that %s chooses", dir, pattern)
			}
		}
	}
	return nil
}

// serveDocumented is what TestMain does where the test binary stands for a program
// of the documentation.
func serveDocumented(program string, args []string, stderr io.Writer) int {
	if err := documented(program, args); err != nil {
		fmt.Fprintf(stderr, "%s %s: %v\n", program, strings.Join(args, " "), err)
		return 1
	}
	return 0
}

// TestDocumentedCommandsAreChecked: what a document would say wrongly is noticed.
func TestDocumentedCommandsAreChecked(t *testing.T) {
	t.Setenv(envSources, "../..")
	for _, good := range []string{
		"parse run demo --set seeds=1,2", "parse sweep mine.yaml", "parse schedule show nightly --night last", "make -s smollm2 demo", "make judge REFERENCE=x",
		"go test ./lm/cpu -run Profile -v", "go test ./lm -run ^$ -fuzz FuzzTensorFile", "go test ./lm -bench Train/sp-sft/tree",
	} {
		words := strings.Fields(good)
		if err := documented(words[0], words[1:]); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"parse rum demo", "parse run demo --sets x=1", "parse run", "parse schedule", "make demos", "go test ./lm -run NoSuchTest", "go test ./none",
	} {
		words := strings.Fields(bad)
		if err := documented(words[0], words[1:]); err == nil {
			t.Errorf("%s: passes, want an error", bad)
		}
	}
}
