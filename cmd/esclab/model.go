package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm/hub"
)

func (a *app) modelCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "model",
		Short: "Get models from the Hugging Face hub, and list those that are here",
	}
	c.AddCommand(a.modelGetCommand(), modelListCommand())
	return c
}

func (a *app) modelGetCommand() *cobra.Command {
	var files []string
	c := &cobra.Command{
		Use:   "get ORG/NAME[@REVISION]",
		Short: "Download a model into the hub's cache, or go on with a download",
		Long: `Download a model from the Hugging Face hub into the cache that huggingface_hub,
transformers and vLLM share: configuration, tokenizer and safetensors, or the
files that --file names. What is there is not fetched again, and a download that
was killed goes on where it was. Every file is compared with the hash that the
hub states. The commit is printed: ORG/NAME@COMMIT as backbone.path pins it.

HF_TOKEN is sent to the hub and to no other host; a gated model asks for one.
HF_ENDPOINT names a mirror, HF_HUB_CACHE or HF_HOME the cache; HF_HUB_OFFLINE=1
forbids every download.`,
		Example: `  esclab model get HuggingFaceTB/SmolLM2-135M-Instruct
  esclab model get Qwen/Qwen2.5-7B-Instruct@main
  esclab model get org/model-GGUF --file model-Q4_K_M.gguf`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			model, ok := experiments.ParseHubModel(args[0])
			if !ok {
				return fmt.Errorf("%q names no model of the hub: use ORG/NAME or ORG/NAME@REVISION", args[0])
			}
			if model.File != "" { // as backbone.path has it
				files = append(files, model.File)
			}
			return a.modelGet(c.Context(), hub.Repo{Name: model.Name, Revision: model.Revision, Files: files}, c.OutOrStdout())
		},
	}
	c.Flags().StringArrayVar(&files, "file", nil, "download this file of the repository instead (repeatable)")
	return c
}

func (a *app) modelGet(ctx context.Context, repo hub.Repo, out io.Writer) error {
	cache := experiments.HubCache(os.Getenv)
	if cache == "" {
		return errors.New("there is no place for the hub's cache: set HF_HUB_CACHE")
	}
	client := hub.FromEnv(os.Getenv, cache)
	client.Log = func(line string) { a.log.Info().Msg(line) }
	if onTerminal(os.Stderr) {
		client.Progress = func(file string, done, total int64) {
			fmt.Fprintf(os.Stderr, "\r\x1b[K%s  %s", file, size(done))
			if total > 0 {
				fmt.Fprintf(os.Stderr, " of %s  %d %%", size(total), 100*done/total)
			}
			if done == total {
				fmt.Fprintln(os.Stderr)
			}
		}
	}
	got, err := client.Get(ctx, repo)
	if err != nil {
		if ctx.Err() != nil {
			fmt.Fprintln(os.Stderr, "\nstopping; the same command goes on where it is")
			return ctx.Err()
		}
		return failed(err)
	}
	fmt.Fprintf(out, "%s@%s: %d files, %s, %s of them downloaded now\n%s\n",
		repo.Name, got.Commit, len(got.Files), size(got.Bytes), size(got.Downloaded), got.Dir)
	return nil
}

// offerModel asks, where a run lacks a backbone that the hub has and somebody sits at a terminal, whether to download
// it, and then plans again. Otherwise the error is what is missing.
func (a *app) offerModel(ctx context.Context, p experiments.Prepared, name string, set []string) (experiments.Prepared, error) {
	model, ok := missingModel(p)
	if !ok || !agreed(fmt.Sprintf("esclab: backbone.path: %s is not here. Get it now, with `%s`?", p.Experiment.Backbone.Path, model.GetCommand())) {
		return p, p.Missing
	}
	repo := hub.Repo{Name: model.Name, Revision: model.Revision}
	if model.File != "" {
		repo.Files = []string{model.File}
	}
	if err := a.modelGet(ctx, repo, os.Stderr); err != nil {
		return p, err
	}
	p, err := a.prepare(ctx, name, set)
	return p, errors.Join(err, p.Missing)
}

// missingModel says which model of the hub an experiment lacks, where it lacks nothing else.
func missingModel(p experiments.Prepared) (experiments.HubModel, bool) {
	var missing *experiments.MissingSourceError
	joined, ok := p.Missing.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 1 || !errors.As(p.Missing, &missing) || missing.Key != "backbone.path" || !errors.Is(missing, fs.ErrNotExist) {
		return experiments.HubModel{}, false
	}
	return experiments.ParseHubModel(p.Experiment.Backbone.Path)
}

// agreed asks a question on the terminal and says whether the answer was yes. Where
// nobody sits at one, it was not.
func agreed(question string) bool {
	return term.IsTerminal(int(os.Stdin.Fd())) && onTerminal(os.Stderr) && affirmed(os.Stdin, os.Stderr, question)
}

// affirmed asks a question that only "y" or "yes" affirms.
func affirmed(in io.Reader, out io.Writer, question string) bool {
	fmt.Fprint(out, question, " [y/N] ")
	answer, _ := bufio.NewReader(in).ReadString('\n') // the end of the input is a no
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

func modelListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the models that a backbone.path can name",
		Long: `List what a backbone.path can name: the snapshots in the Hugging Face hub's cache
whose files are all there, by ORG/NAME or ORG/NAME@REVISION, and the directories and GGUF files
under $ESCLAB_MODELS, with their sizes.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return modelList(os.Getenv, c.OutOrStdout()) },
	}
}

// modelList prints a line for each model: its path, its size, where it is.
func modelList(getenv func(string) string, out io.Writer) error {
	var paths []string
	add := func(pattern string, path func(found string) string) {
		found, _ := filepath.Glob(pattern) // fails of a bad pattern alone
		for _, f := range found {
			paths = append(paths, path(f))
		}
	}
	if models := getenv("ESCLAB_MODELS"); models != "" {
		below := func(found string) string { return strings.TrimPrefix(found, models+string(filepath.Separator)) }
		add(filepath.Join(models, "*.gguf"), below)
		add(filepath.Join(models, "*", "config.json"), func(found string) string { return below(filepath.Dir(found)) })
		add(filepath.Join(models, "*", "*", "config.json"), func(found string) string { return below(filepath.Dir(found)) })
	}
	if cache := experiments.HubCache(getenv); cache != "" {
		for _, file := range []string{"config.json", "*.gguf"} {
			add(filepath.Join(cache, "models--*", "snapshots", "*", file), func(found string) string {
				snapshot := filepath.Dir(found)
				repository := filepath.Dir(filepath.Dir(snapshot))
				path := strings.ReplaceAll(strings.TrimPrefix(filepath.Base(repository), "models--"), "--", "/")
				if ref, err := os.ReadFile(filepath.Join(repository, "refs", "main")); err != nil || strings.TrimSpace(string(ref)) != filepath.Base(snapshot) {
					path += "@" + filepath.Base(snapshot)
				}
				if experiments.GGUF(found) {
					path += "/" + filepath.Base(found)
				}
				return path
			})
		}
	}
	slices.Sort(paths)
	host := experiments.OS(nil)
	host.Getenv = getenv
	for _, path := range slices.Compact(paths) {
		found, err := experiments.FindCheckpoint(path, host)
		var bytes int64
		if err == nil {
			bytes, err = checkpointSize(found)
		}
		if err != nil {
			continue // a part of a model
		}
		if _, err := fmt.Fprintf(out, "%-50s %9s  %s\n", path, size(bytes), found); err != nil {
			return failed(err)
		}
	}
	return nil
}

// checkpointSize adds up the weights of a model; without tokenizer or weights it is none.
func checkpointSize(path string) (int64, error) {
	weights := []string{path}
	if !experiments.GGUF(path) {
		if _, err := os.Stat(filepath.Join(path, "tokenizer.json")); err != nil {
			return 0, err
		}
		weights, _ = filepath.Glob(filepath.Join(path, "*.safetensors"))
	}
	sum := int64(0)
	for _, name := range weights {
		info, err := os.Stat(name)
		if err != nil {
			return 0, err
		}
		sum += info.Size()
	}
	if sum == 0 {
		return 0, fs.ErrNotExist
	}
	return sum, nil
}
