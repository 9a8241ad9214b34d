package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// parse fills the struct at c. It returns an error, by variable, for each value of
// the wrong type. A variable with an empty value counts as not set.
func parse(c any, vars map[string]string) (map[string]error, error) {
	nonEmpty := maps.Clone(vars)
	maps.DeleteFunc(nonEmpty, func(_, value string) bool { return strings.TrimSpace(value) == "" })
	err := env.ParseWithOptions(c, env.Options{Environment: nonEmpty})
	var aggregate env.AggregateError
	if err == nil || !errors.As(err, &aggregate) {
		return nil, err
	}
	variables := variablesOf(reflect.TypeOf(c).Elem())
	typeErrs := map[string]error{}
	for _, err := range aggregate.Errors {
		var parseErr env.ParseError
		if !errors.As(err, &parseErr) {
			return nil, err
		}
		variable := variables[parseErr.Name]
		typeErrs[variable] = fmt.Errorf("%s must be %s", variable, describeType(parseErr.Type))
	}
	return typeErrs, nil
}

// variablesOf maps the names of the struct's fields, which the parser reports, to
// environment variables.
func variablesOf(t reflect.Type) map[string]string {
	variables := map[string]string{}
	for i := range t.NumField() {
		field := t.Field(i)
		if variable := field.Tag.Get("env"); variable != "" {
			variables[field.Name] = variable
		} else if field.Type.Kind() == reflect.Struct {
			maps.Copy(variables, variablesOf(field.Type))
		}
	}
	return variables
}

// describeType describes the values of a type. Errors do not repeat the value: it
// may be a secret meant for another variable.
func describeType(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[int]():
		return "a whole number"
	case reflect.TypeFor[float64](), reflect.TypeFor[*float64]():
		return "a number"
	case reflect.TypeFor[bool]():
		return "true or false"
	case reflect.TypeFor[time.Duration]():
		return "a duration like 30s or 5m"
	case reflect.TypeFor[slog.Level]():
		return "one of debug, info, warn, error"
	}
	return "a valid value"
}
