//go:build !cgo || !linux || !(amd64 || arm64)

package lm

import "errors"

var errPortable = errors.New("this program was built without cgo, or not for Linux")

func openONNX(string) (*Engine, error) {
	return nil, &EngineError{Engine: "onnx", Cause: errPortable}
}

func openXLA(plugin, _ string) (*Engine, error) {
	return nil, &EngineError{Engine: "xla:" + plugin, Cause: errPortable}
}
