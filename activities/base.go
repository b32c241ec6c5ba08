package activities

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"

	"github.com/esclab/esclab/artifacts"
	"github.com/esclab/esclab/esc"
	"github.com/esclab/esclab/experiments"
	"github.com/esclab/esclab/lm"
	"github.com/esclab/esclab/lm/tokens"
	"github.com/esclab/esclab/results"
	"github.com/esclab/esclab/results/models"
	"github.com/esclab/esclab/workflows"
)

// runBase provides the backbone: a Hugging Face checkpoint is imported; a tiny
// Llama gets a tokenizer and is pretrained on the corpus' train split.
func runBase(ctx context.Context, t *attempt, params experiments.BaseParams) (output, error) {
	if params.Tiny == nil {
		return importBase(ctx, t, params)
	}
	return pretrain(ctx, t, params)
}

// importBase takes a checkpoint's files over as they are, after checking that
// model and tokenizer can be read and fit each other. Of a GGUF file it takes
// what the file becomes in Hugging Face's layout.
func importBase(ctx context.Context, t *attempt, params experiments.BaseParams) (output, error) {
	source, file := experiments.SplitSource(t.in.Stage.Source)
	if experiments.Remote(source) {
		var err error
		if source, err = fetchFiles(ctx, t, source, params.Files); err != nil {
			return output{}, fmt.Errorf("backbone: %w", err)
		}
	}
	out := output{files: map[string]string{}, metrics: map[string]float64{}}
	bytes := 0.0
	for _, f := range params.Files {
		path := filepath.Join(source, filepath.Base(f.Name))
		if err := checkDigest(path, f.SHA256); err != nil {
			return output{}, badInput(fmt.Errorf("backbone: %w", err))
		}
		if file == "" {
			out.files[filepath.Base(f.Name)] = path
		}
		bytes += float64(f.Bytes)
	}
	if file != "" {
		t.beat(workflows.Progress{Phase: "dequantize"})
		dir := filepath.Join(t.dir, "base")
		if err := t.dequantize(filepath.Join(source, file), dir, out.files); err != nil {
			return output{}, fmt.Errorf("backbone: %w", err)
		}
		source = dir
	}
	config, err := lm.ReadConfig(source)
	if err != nil {
		return output{}, badInput(fmt.Errorf("backbone: %w", err))
	}
	if err := lm.CheckModel(source); err != nil {
		return output{}, badInput(fmt.Errorf("backbone: %w", err))
	}
	tok, err := tokens.Load(source)
	if err != nil {
		return output{}, badInput(fmt.Errorf("backbone: %w", err))
	}
	if err := tok.Check(config.VocabSize, config.EOSTokenIDs); err != nil {
		return output{}, badInput(fmt.Errorf("backbone: %w", err))
	}
	out.metrics["bytes"] = bytes
	return out, nil
}

// dequantize writes a GGUF file's model and tokenizer into dir, and what the
// file was.
func (t *attempt) dequantize(path, dir string, files map[string]string) error {
	file, err := lm.OpenGGUF(path)
	if err != nil {
		return badInput(err)
	}
	if err := file.Write(dir); err != nil {
		return err
	}
	for _, name := range []string{results.FileConfig, results.FileWeights, results.FileTokenizer, results.FileTokenizerConfig} {
		files[name] = filepath.Join(dir, name)
	}
	files[results.FileQuantization], err = t.create(results.FileQuantization, func(w *os.File) error {
		return results.WriteJSON(w, results.Quantization{File: filepath.Base(path), Tensors: file.Types})
	})
	return err
}

// fetchFiles copies a checkpoint's files from a bucket into the scratch directory.
// What arrives is compared with the plan like any other file.
func fetchFiles(ctx context.Context, t *attempt, uri string, files []experiments.FileDigest) (string, error) {
	if t.a.Remote == nil {
		return "", badInput(fmt.Errorf("%s: this worker reads no buckets", uri))
	}
	bucket, err := t.a.Remote(ctx, uri)
	if err != nil {
		return "", badInput(err)
	}
	dir := filepath.Join(t.dir, "source")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	for i, f := range files {
		t.beat(workflows.Progress{Phase: "download", Step: i, Steps: len(files)})
		name := filepath.Base(f.Name)
		r, err := bucket.Get(ctx, name)
		if errors.Is(err, artifacts.ErrNotFound) {
			return "", badInput(err)
		} else if err != nil {
			return "", err
		}
		_, err = t.create(filepath.Join("source", name), func(out *os.File) error {
			_, err := io.Copy(out, r)
			return err
		})
		if err = errors.Join(err, r.Close()); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// pretrain trains a tokenizer and every weight of a tiny Llama on the train
// split's dialogues, as chats whose supporter turns carry strategies drawn at
// random. What the base model learns is the language of the corpus and the
// form "[Strategy] response", as an instruction-tuned model can follow a form;
// when to use which strategy, and what it does to a response, it cannot learn.
func pretrain(ctx context.Context, t *attempt, params experiments.BaseParams) (output, error) {
	engine, err := openEngine(t, params.Engine)
	if err != nil {
		return output{}, err
	}
	corpus, err := readCorpus(ctx, t, results.FileTrain, results.FileValid)
	if err != nil {
		return output{}, err
	}
	dir := filepath.Join(t.dir, "base")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return output{}, err
	}
	t.beat(workflows.Progress{Phase: "tokenizer"})
	tok, err := tokens.TrainBPE(ctx, texts(corpus[results.FileTrain]), dir, tokens.BPEOptions{VocabSize: params.Tiny.VocabSize})
	if err != nil {
		return output{}, fmt.Errorf("tokenizer: %w", err)
	}
	config, err := tinyConfig(params.Tiny, tok)
	if err != nil {
		return output{}, badInput(err)
	}
	model, err := lm.NewModel(config, params.Seed)
	if err != nil {
		return output{}, badInput(err)
	}
	b := &models.Backbone{Params: params.ModelParams, Engine: engine, Model: model, Tok: tok}
	train, err := pretrainData(b, corpus[results.FileTrain], params.Seed)
	if err != nil {
		return output{}, err
	}
	valid, err := pretrainData(b, corpus[results.FileValid], params.Seed)
	if err != nil {
		return output{}, err
	}
	p := params.Tiny.Pretrain
	trainConfig := trainConfig(b, t.in.Memory, p.Training, p.LearningRate, params.Seed)
	trainConfig.Loss = lm.Loss{Kind: lm.LossSFT}
	train.Validation = valid.Examples
	trainer, err := lm.NewTrainer(engine, model, nil, train, trainConfig)
	if err != nil {
		return output{}, err
	}
	defer trainer.Close()
	out, err := runTraining(ctx, t, trainer, len(train.Validation) > 0, results.DataNotes{Examples: len(train.Examples)})
	if err != nil {
		return output{}, err
	}
	trained, err := trainer.Model()
	if err != nil {
		return output{}, err
	}
	if err := trained.Save(dir); err != nil {
		return output{}, err
	}
	for _, name := range []string{results.FileConfig, results.FileWeights, results.FileTokenizer, results.FileTokenizerConfig} {
		out.files[name] = filepath.Join(dir, name)
	}
	out.metrics["parameters"] = float64(model.Parameters())
	return out, nil
}

// texts yields what the tokenizer learns from: every utterance, and the
// strategies' names as the models write them.
func texts(dialogues []esc.Dialogue) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, d := range dialogues {
			for _, m := range esc.Chat(d) {
				if !yield(m.Content) {
					return
				}
			}
		}
	}
}

// tinyConfig is the Hugging Face configuration of a tiny Llama.
func tinyConfig(p *experiments.Tiny, tok *tokens.Tokenizer) (lm.Config, error) {
	eos, ok := tok.EOS()
	if !ok {
		return lm.Config{}, fmt.Errorf("the trained tokenizer has no end-of-turn token")
	}
	config := lm.Config{
		ModelType: "llama", VocabSize: tok.VocabSize(), HiddenSize: p.HiddenSize, IntermediateSize: p.IntermediateSize,
		NumHiddenLayers: p.Layers, NumAttentionHeads: p.Heads, NumKeyValueHeads: p.KVHeads,
		MaxPositionEmbeddings: p.MaxPositions, RMSNormEps: 1e-5, RopeTheta: 10000,
		TieWordEmbeddings: true, EOSTokenIDs: lm.TokenIDs{int(eos)}, HiddenAct: "silu",
		HeadDim: p.HiddenSize / p.Heads,
	}
	if bos, ok := tok.BOS(); ok {
		id := int(bos)
		config.BOSTokenID = &id
	}
	return config, nil
}

// pretrainData encodes each dialogue as one chat, the loss on every token;
// dialogues longer than the limit become several sequences. The strategies are
// a function of the seed and the turn's place.
func pretrainData(b *models.Backbone, dialogues []esc.Dialogue, seed uint64) (lm.Dataset, error) {
	var data lm.Dataset
	for _, d := range dialogues {
		var messages []tokens.Message
		for _, turn := range esc.Turns(d) {
			key := placeKey(seed, turn)
			drawn := esc.Strategy(binary.LittleEndian.Uint64(key[:]) % uint64(esc.NumStrategies))
			messages = append(messages,
				tokens.Message{Role: esc.UserRole, Content: turn.Context[len(turn.Context)-1].Content},
				tokens.Message{Role: esc.AssistantRole, Content: esc.Answer(esc.VM, drawn, turn.Response)})
		}
		if len(messages) == 0 {
			continue
		}
		last := messages[len(messages)-1]
		ids, _, err := b.Tok.ChatTokens(messages[:len(messages)-1], "", last.Content)
		if err != nil {
			return data, fmt.Errorf("dialogue %d: %w", d.Index, err)
		}
		for first := 0; first+1 < len(ids); first += b.Params.MaxTokens {
			part := ids[first:min(first+b.Params.MaxTokens, len(ids))]
			if len(part) < 2 {
				break
			}
			data.Examples = append(data.Examples, lm.Example{
				Group:     models.Group(d.Index),
				Sequences: []lm.Sequence{{Tokens: part, LossFrom: 1}},
			})
		}
	}
	return data, nil
}
