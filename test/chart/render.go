// Renders a Helm chart as Helm does: text/template, sprig, and the few functions that Helm adds. For tests and for
// the plain manifests; it knows no repositories, dependencies, hooks or clusters.
//
//	render CHART NAMESPACE < overrides.json
//
// Standard input is {"values": {…}, "absent": ["group/version", …]}: values that override values.yaml, and APIs that the
// cluster lacks. The rendered files come to standard output, one YAML document after the other, in the order of their
// names. NOTES.txt is rendered, too, but not written.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"gopkg.in/yaml.v2"
)

type object = map[string]interface{}

// Helm's values went through JSON, so every number is a float64.
func readYAML(text []byte) (interface{}, error) {
	var raw interface{}
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	encoded, err := json.Marshal(textKeys(raw))
	if err != nil {
		return nil, err
	}
	var value interface{}
	return value, json.Unmarshal(encoded, &value)
}

func textKeys(value interface{}) interface{} {
	switch value := value.(type) {
	case map[interface{}]interface{}:
		out := object{}
		for key, item := range value {
			out[fmt.Sprint(key)] = textKeys(item)
		}
		return out
	case []interface{}:
		for i, item := range value {
			value[i] = textKeys(item)
		}
	}
	return value
}

// Maps merge, null takes a default away, all else replaces.
func merge(base, over object) object {
	for key, value := range over {
		inner, isMap := value.(object)
		below, wasMap := base[key].(object)
		switch {
		case value == nil:
			delete(base, key)
		case isMap && wasMap:
			base[key] = merge(below, inner)
		default:
			base[key] = value
		}
	}
	return base
}

func toYAML(value interface{}) (string, error) {
	text, err := yaml.Marshal(value)
	return strings.TrimSuffix(string(text), "\n"), err
}

// Which API groups a cluster has: all that the chart asks for, unless the overrides' `absent` says otherwise.
type apiVersions []string

func (absent apiVersions) Has(version string) bool {
	for _, one := range absent {
		if one == version {
			return false
		}
	}
	return true
}

// Files of the chart that are no templates.
type files string

func (folder files) Get(name string) (string, error) {
	text, err := os.ReadFile(filepath.Join(string(folder), name))
	return string(text), err
}

func run(folder, namespace string) error {
	read := func(name string) (object, error) {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return nil, err
		}
		value, err := readYAML(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return value.(object), nil
	}
	chart, err := read("Chart.yaml")
	if err != nil {
		return err
	}
	values, err := read("values.yaml")
	if err != nil {
		return err
	}
	var input struct {
		Values object
		Absent apiVersions
	}
	if err := json.NewDecoder(os.Stdin).Decode(&input); err != nil {
		return fmt.Errorf("overrides: %w", err)
	}

	root := template.New("chart").Option("missingkey=error")
	functions := sprig.TxtFuncMap()
	// Helm takes these away: a chart must not depend on where it is rendered.
	delete(functions, "env")
	delete(functions, "expandenv")
	functions["toYaml"] = toYAML
	functions["include"] = func(name string, data interface{}) (string, error) {
		var out bytes.Buffer
		err := root.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	functions["required"] = func(message string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return nil, errors.New(message)
		}
		return value, nil
	}
	root.Funcs(functions)

	names, err := filepath.Glob(filepath.Join(folder, "templates", "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := root.New(filepath.Base(name)).Parse(string(text)); err != nil {
			return err
		}
	}
	title := object{}
	for key, value := range chart {
		title[strings.ToUpper(key[:1])+key[1:]] = value
	}
	data := object{
		"Values":       merge(values, input.Values),
		"Chart":        title,
		"Release":      object{"Name": chart["name"], "Namespace": namespace, "Service": "Helm"},
		"Capabilities": object{"APIVersions": input.Absent},
		"Files":        files(folder),
	}
	for _, name := range names {
		base := filepath.Base(name)
		if strings.HasPrefix(base, "_") {
			continue
		}
		var out bytes.Buffer
		if err := root.ExecuteTemplate(&out, base, data); err != nil {
			return err
		}
		text := strings.Trim(out.String(), "\n")
		if strings.TrimSpace(text) != "" && base != "NOTES.txt" {
			fmt.Printf("---\n# from %s\n%s\n", base, strings.TrimPrefix(text, "---\n"))
		}
	}
	return nil
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: render CHART NAMESPACE < overrides.json")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}
