package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/internal/inert"
	"github.com/esclab/esclab/results/recipe"
)

// recipe writes how the systems reply whose models are in the folder.
func (x *exporter) recipe() error {
	r := recipe.New(x.backbone())
	for _, s := range x.layout.Of(experiments.KindGenerate) {
		adapters, base, whole := map[esc.Role]string{}, "", true
		for input, stage := range s.Inputs {
			flat := strings.ReplaceAll(stage, "/", "-")
			switch {
			case slices.Contains(x.bases, flat):
				base = flat
			case slices.Contains(x.trained, flat):
				adapters[esc.Role(input)] = "adapters/" + flat
			default:
				_, done := x.done[stage]
				whole = whole && done
			}
		}
		if !whole {
			continue // a model is missing
		}
		params, err := experiments.ParamsOf[experiments.GenerateParams](s)
		if err != nil {
			return fmt.Errorf("%s: %w", recipe.FilePrompts, err)
		}
		name := strings.TrimPrefix(s.Name, string(experiments.KindGenerate)+"/")
		if err := r.Add(name, base, adapters, params); err != nil {
			return fmt.Errorf("%s: %w", recipe.FilePrompts, err)
		}
		if _, added := r.Systems[name]; added {
			x.recipes = append(x.recipes, name)
		}
	}
	if len(x.recipes) == 0 {
		return nil
	}
	data, err := r.JSON()
	if err != nil {
		return err
	}
	err = x.folder.write(recipe.FilePrompts, origin{}, bytes.NewReader(data))
	return errors.Join(err, x.folder.write(recipe.FileScript, origin{}, strings.NewReader(recipe.Script)))
}

// backbone is the backbone's name in the reports.
func (x *exporter) backbone() string {
	for _, s := range x.layout.Of(experiments.KindReport) {
		if p, err := experiments.ParamsOf[experiments.ReportParams](s); err == nil {
			return p.Backbone
		}
	}
	return "the backbone"
}

// inHubCache matches the place of a model in the cache of the Hugging Face hub.
var inHubCache = regexp.MustCompile(`models--([\w.-]+?)--([\w.-]+)/snapshots/`)

// baseModel is the backbone's name on the Hugging Face hub, "" where it is not known: it was found elsewhere
// than in the hub's cache, or pretrained here.
func (x *exporter) baseModel() string {
	for _, s := range x.layout.Of(experiments.KindBase) {
		if name := inHubCache.FindStringSubmatch(filepath.ToSlash(s.Source)); name != nil {
			return name[1] + "/" + name[2]
		}
	}
	return ""
}

// ESConv on the Hugging Face hub, and the name of its file.
const (
	hubESConv  = "thu-coai/esconv"
	fileESConv = "ESConv.json"
)

// corpus says what the run was trained on: a name on the Hugging Face hub, "" where it is not known, and in words.
func (x *exporter) corpus() (dataset, words string) {
	s, ok := x.layout.Stage(string(experiments.KindCorpus))
	if !ok {
		return "", "an unknown corpus"
	}
	esconv := os.Getenv("ESCLAB_ESCONV")
	switch {
	case s.Source == experiments.SourceDemo:
		return "", "the synthetic sample corpus of esclab"
	case filepath.Base(s.Source) == fileESConv, esconv != "" && s.Source == esconv:
		return hubESConv, "[ESConv](https://huggingface.co/datasets/" + hubESConv + ")"
	}
	return "", inert.Code(filepath.Base(s.Source))
}

// card writes README.md: a model card as the Hugging Face hub reads it, and how to load what is in the folder.
func (x *exporter) card(ctx context.Context) error {
	var b strings.Builder
	base := x.baseModel()
	dataset, corpus := x.corpus()
	b.WriteString("---\nlibrary_name: peft\npipeline_tag: text-generation\nlanguage: [en]\n")
	if base != "" {
		fmt.Fprintf(&b, "base_model: %s\n", base)
	}
	if dataset != "" {
		fmt.Fprintf(&b, "datasets: [%s]\n", dataset)
	}
	b.WriteString("metrics: [bleu, rouge, f1]\ntags: [emotional-support, lora, dpo]\nlicense: other\nlicense_name: of-the-backbone-and-the-corpus\n---\n\n")
	name := inert.Markdown(x.layout.Name)
	backbone := inert.Markdown(x.backbone())
	if base != "" {
		backbone = "[" + base + "](https://huggingface.co/" + base + ")"
	}
	fmt.Fprintf(&b, "# %s\n\nModels for emotional support conversations after *DecoupledESC* (Zhang et al.): LoRA adapters of\n%s, trained on %s.\n"+
		"Written by `esclab export`; `manifest.json` has the SHA-256 of every file, and the\nstage and artifact that it comes from.\n", name, backbone, corpus)
	b.WriteString("\nThey are for research. Their replies have not been reviewed by anyone who is qualified to support people in distress,\nand are no substitute for one.\n")
	numbers, err := x.numbers(ctx)
	if err != nil {
		return err
	}
	b.WriteString(numbers)
	b.WriteString(x.loading())
	fmt.Fprintf(&b, "\n## Licence\n\nAn adapter is nothing without its backbone, whose licence goes with it (%s), and\nit has learned from %s, whose licence goes with it, with the predictions, the pairs,\nthe SFT data and the report, which hold its dialogues.", backbone, corpus)
	if dataset == hubESConv {
		b.WriteString(" ESConv is CC BY-NC 4.0: not for commercial use.")
	}
	b.WriteString("\n")
	return x.folder.write("README.md", origin{}, strings.NewReader(b.String()))
}

// numbers is Table 3 of the report as Markdown; "" without a report.
func (x *exporter) numbers(ctx context.Context) (string, error) {
	for _, s := range x.layout.Of(experiments.KindReport) {
		ref, ok := x.done[s.Name].Files["table3.csv"]
		if !ok {
			continue
		}
		r, err := x.se.node.Store.Open(ctx, ref)
		if err != nil {
			return "", err
		}
		rows, err := csv.NewReader(r).ReadAll()
		if err = errors.Join(err, r.Close()); err != nil || len(rows) == 0 {
			return "", err
		}
		at := map[string]int{}
		for i, name := range rows[0] {
			at[name] = i
		}
		var b strings.Builder
		b.WriteString("\n## Results\n\nOn the test split, as in Table 3 of the paper; `tables/report.html` has intervals, and what may be said of them.\n\n| system |")
		for _, c := range experiments.Table3() {
			b.WriteString(" " + c.Head + " |")
		}
		b.WriteString("\n|---|" + strings.Repeat("---:|", experiments.NumColumns) + "\n")
		for _, row := range rows[1:] {
			if row[at["source"]] != "run" {
				continue
			}
			system := row[at["paradigm"]] + "/" + row[at["method"]]
			if pairs := row[at["pairs"]]; pairs != "" {
				system += "/" + pairs
			}
			b.WriteString("| " + system + " |")
			for _, c := range experiments.Table3() {
				value := "–"
				if v, err := strconv.ParseFloat(row[at[c.Name]], 64); err == nil {
					value = strconv.FormatFloat(v, 'f', 2, 64)
				}
				b.WriteString(" " + value + " |")
			}
			b.WriteString("\n")
		}
		return b.String(), nil
	}
	return "", nil
}

// loading says how to load what is in the folder.
func (x *exporter) loading() string {
	var b strings.Builder
	if len(x.recipes) > 0 {
		system := x.recipes[len(x.recipes)-1]
		for _, name := range x.recipes {
			if strings.HasPrefix(name, string(experiments.Decoupled)+"/") {
				system = name
			}
		}
		fmt.Fprintf(&b, "\n## Replies\n\n`inference.py` builds them with transformers and peft, of this folder alone (and the backbone, where it is not in it:\n`--backbone`). `prompts.json` has what it gives the models: the system messages, how the conversation is put in, and\nhow the strategy. Systems: `%s`.\n\n```sh\npip install torch transformers peft\necho '{\"messages\": [{\"role\": \"user\", \"content\": \"I lost my job last week.\"}]}' | python inference.py %s\n```\n",
			strings.Join(x.recipes, "`, `"), system)
	}
	if len(x.trained) > 0 {
		base := "NAME_OR_PATH_OF_THE_BACKBONE"
		if len(x.bases) > 0 {
			base = x.bases[len(x.bases)-1]
		}
		fmt.Fprintf(&b, "\n## Adapters\n\nLoRA adapters in PEFT's layout: `adapters/%s`.\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\nfrom peft import PeftModel\n\nmodel = AutoModelForCausalLM.from_pretrained(%q)\nmodel = PeftModel.from_pretrained(model, \"adapters/%s\")\n```\n",
			strings.Join(x.trained, "`, `adapters/"), base, x.trained[len(x.trained)-1])
	}
	if len(x.systems) > 0 {
		fmt.Fprintf(&b, "\n## Predictions\n\nOne JSON object a test turn, one file a system. `esclab score predictions/%s.jsonl`\ngives the numbers of the tables.\n", x.systems[len(x.systems)-1])
	}
	has := func(dir string) bool {
		return slices.ContainsFunc(x.folder.files, func(f exported) bool { return strings.HasPrefix(f.Path, dir+"/") })
	}
	if has("pairs") {
		b.WriteString("\n## Pairs\n\nFor TRL's DPOTrainer, one file a role: vm the vanilla model, sp the strategy\nplanner, rg the response generator.\n\n```python\nfrom datasets import load_dataset\n\npairs = load_dataset(\"json\", data_files=\"pairs/sp.jsonl\")\n```\n")
	}
	if has(dirSFT) {
		b.WriteString("\n## SFT data\n\nFor TRL's SFTTrainer, one file a role, a line a turn. The run's loss is on the last message alone:\n\n```python\nfrom datasets import load_dataset\n\nsft = load_dataset(\"json\", data_files=\"sft/vm.jsonl\").map(\n    lambda row: {\"prompt\": row[\"messages\"][:-1], \"completion\": row[\"messages\"][-1:]}, remove_columns=\"messages\")\n```\n")
	}
	if has(dirFactory) {
		b.WriteString("\n`llamafactory/` has pairs and SFT data for LLaMA-Factory: `dataset_dir: llamafactory`, `dataset: sft_vm` with\n`mask_history: true`, and so on, as in its `dataset_info.json`.\n")
	}
	if has("tables") {
		b.WriteString("\n## Tables\n\n`tables/report.html` is the report; `table3.csv` and `report.json` have its numbers,\n`tables.tex` its tables.\n")
	}
	if has("tensorboard") {
		b.WriteString("\n## Curves\n\n`tensorboard --logdir tensorboard`: loss, learning rate, validation loss and DPO's\nrewards of each training, by step.\n")
	}
	if len(x.missing) > 0 {
		fmt.Fprintf(&b, "\n## Not there\n\nThese stages were not done: `%s`.\n", strings.Join(x.missing, "`, `"))
	}
	return b.String()
}
