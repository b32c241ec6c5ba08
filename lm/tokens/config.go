package tokens

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/esclab/esclab/internal/jsonerror"
)

// The files beside tokenizer.json.
const (
	configFile         = "tokenizer_config.json"
	specialTokensFile  = "special_tokens_map.json"
	addedTokensFile    = "added_tokens.json"
	templateFile       = "chat_template.jinja"
	moreTemplatesDir   = "additional_chat_templates"
	generationFile     = "generation_config.json"
	addedTokensDecoder = "added_tokens_decoder"
)

// standardTokens are the names of special tokens in the order in which transformers adds those that tokenizer.json
// lacks (tokenization_utils_base.SPECIAL_TOKENS_ATTRIBUTES).
var standardTokens = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// tokenizerConfig is what tokenizer_config.json says, and the files beside it where transformers reads them.
type tokenizerConfig struct {
	listed   []addedToken // tokens with their ids, in the order of these
	listedIn string       // where they stand
	special  map[string]specialToken
	extra    []specialToken
	template json.RawMessage // chat_template
}

// specialToken is an added token that is written as its text alone, or as an object.
type specialToken addedToken

func (s *specialToken) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '{' {
		return json.Unmarshal(data, (*addedToken)(s))
	}
	return json.Unmarshal(data, &s.Content)
}

// listedToken is an added token of a list: where nothing is said of it, a token that is not special is normalized.
type listedToken addedToken

func (l *listedToken) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, (*addedToken)(l)); err != nil {
		return err
	}
	l.Normalized = !l.Special
	return json.Unmarshal(data, (*addedToken)(l))
}

// readConfig reads tokenizer_config.json, where there is one. Where it has no added_tokens_decoder, transformers reads
// special_tokens_map.json, which wins over it, and added_tokens.json (tokenization_utils_base._from_pretrained).
func readConfig(dir string) (*tokenizerConfig, error) {
	c := &tokenizerConfig{special: map[string]specialToken{}, listedIn: addedTokensDecoder}
	keys, err := readKeys(dir, configFile)
	if err != nil {
		return nil, err
	}
	files := []map[string]json.RawMessage{keys}
	listed := map[string]listedToken{}
	if raw, ok := keys[addedTokensDecoder]; ok {
		if err := json.Unmarshal(raw, &listed); err != nil {
			return nil, fmt.Errorf("tokens: load tokenizer %s: %s: %w", filepath.Join(dir, configFile), addedTokensDecoder, jsonerror.Plain(err))
		}
	} else {
		older, err := readKeys(dir, specialTokensFile)
		if err != nil {
			return nil, err
		}
		files = append(files, older)
	}
	for i, file := range files {
		if err := c.take(file); err != nil {
			return nil, fmt.Errorf("tokens: load tokenizer %s: %w", filepath.Join(dir, []string{configFile, specialTokensFile}[i]), err)
		}
	}
	if len(files) > 1 {
		if err := c.readAdded(dir, listed); err != nil {
			return nil, err
		}
	}
	for id, token := range listed {
		n, err := strconv.ParseInt(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("tokens: load tokenizer %s: %s: %q is no id", filepath.Join(dir, configFile), addedTokensDecoder, id)
		}
		token.ID = int32(n)
		c.listed = append(c.listed, addedToken(token))
	}
	slices.SortFunc(c.listed, func(a, b addedToken) int { return cmp.Compare(a.ID, b.ID) })
	c.template = keys["chat_template"]
	return c, nil
}

// readKeys reads a JSON object; no keys where the file is absent.
func readKeys(dir, name string) (keys map[string]json.RawMessage, err error) {
	path := filepath.Join(dir, name)
	data, err := readOptional(path)
	if err == nil && data != nil {
		err = jsonerror.Plain(json.Unmarshal(data, &keys))
	}
	if err != nil {
		return nil, fmt.Errorf("tokens: load tokenizer %s: %w", path, err)
	}
	return keys, nil
}

// take takes the special tokens of a file over; what an earlier one said of a name counts no more.
func (c *tokenizerConfig) take(keys map[string]json.RawMessage) error {
	for _, key := range []string{"split_special_tokens", "add_prefix_space"} {
		if string(keys[key]) == "true" {
			return fmt.Errorf("%s true is not supported: set it to false, or save the tokenizer without it", key)
		}
	}
	for key, raw := range keys {
		var token specialToken
		switch {
		case !strings.HasSuffix(key, "_token"):
			continue
		case json.Unmarshal(raw, &token) == nil:
			c.special[key] = token
		case slices.Contains(standardTokens, key):
			return fmt.Errorf("%s is neither a text nor an object with its content", key)
		}
	}
	for _, key := range []string{"extra_special_tokens", "additional_special_tokens"} {
		raw := keys[key]
		if len(raw) == 0 {
			continue
		}
		var list []specialToken
		var named map[string]specialToken
		if json.Unmarshal(raw, &list) != nil && json.Unmarshal(raw, &named) != nil {
			return fmt.Errorf("%s is neither a list of tokens nor an object of them", key)
		}
		c.extra = append(c.extra, list...)
		maps.Copy(c.special, named)
	}
	return nil
}

// readAdded reads the tokens of added_tokens.json, which has their ids alone, into listed.
func (c *tokenizerConfig) readAdded(dir string, listed map[string]listedToken) error {
	path := filepath.Join(dir, addedTokensFile)
	data, err := readOptional(path)
	if err != nil || data == nil {
		return err
	}
	var ids map[string]int32
	if err := json.Unmarshal(data, &ids); err != nil {
		return fmt.Errorf("tokens: load tokenizer %s: %w", path, jsonerror.Plain(err))
	}
	c.listedIn = addedTokensFile
	special := map[string]bool{}
	for _, token := range slices.Concat(slices.Collect(maps.Values(c.special)), c.extra) {
		special[token.Content] = true
	}
	for content, id := range ids {
		listed[fmt.Sprint(id)] = listedToken{Content: content, Special: special[content], Normalized: !special[content]}
	}
	return nil
}

// chatTemplate finds the template that transformers takes: chat_template.jinja, or what tokenizer_config.json has, a
// text or the one named "default" of several. Templates of further names lie in a directory of their own; without
// chat_template.jinja, transformers takes none of them unless it is asked for by name.
func (c *tokenizerConfig) chatTemplate(dir string) (string, error) {
	more, err := os.ReadDir(filepath.Join(dir, moreTemplatesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	own, err := readOptional(filepath.Join(dir, templateFile))
	if err != nil {
		return "", err
	}
	for _, entry := range more {
		switch name, isTemplate := strings.CutSuffix(entry.Name(), ".jinja"); {
		case !isTemplate:
		case name == "default":
			return "", fmt.Errorf("%s/default.jinja stands beside %s: keep the one that the model was trained with, as %[2]s", moreTemplatesDir, templateFile)
		case own == nil:
			return "", fmt.Errorf("%s has templates, but there is no %s, so none is the default: give the one that the model was trained with that name",
				moreTemplatesDir, templateFile)
		}
	}
	if own != nil {
		return string(own), nil
	}
	if len(c.template) == 0 || string(c.template) == "null" {
		return "", errNoTemplate
	}
	var text string
	if json.Unmarshal(c.template, &text) == nil {
		return text, nil
	}
	named := map[string]string{}
	if json.Unmarshal(c.template, &named) != nil {
		var list []struct{ Name, Template string }
		if err := json.Unmarshal(c.template, &list); err != nil {
			return "", fmt.Errorf("%s: chat_template: %w", configFile, err)
		}
		for _, one := range list {
			named[one.Name] = one.Template
		}
	}
	text, ok := named["default"]
	if !ok {
		return "", fmt.Errorf(`%s: chat_template has several templates, and none is named "default"`, configFile)
	}
	return text, nil
}
