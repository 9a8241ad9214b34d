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

// parse fills the struct at c and returns a fault for each variable whose value
// is not of the right type. A variable that is set but empty counts as not set.
func parse(c any, vars map[string]string) (map[string]error, error) {
	given := maps.Clone(vars)
	maps.DeleteFunc(given, func(_, value string) bool { return strings.TrimSpace(value) == "" })
	err := env.ParseWithOptions(c, env.Options{Environment: given})
	var all env.AggregateError
	if err == nil || !errors.As(err, &all) {
		return nil, err
	}
	variables := variablesOf(reflect.TypeOf(c).Elem())
	unread := map[string]error{}
	for _, err := range all.Errors {
		var fault env.ParseError
		if !errors.As(err, &fault) {
			return nil, err
		}
		variable := variables[fault.Name]
		unread[variable] = fmt.Errorf("%s must be %s", variable, form(fault.Type))
	}
	return unread, nil
}

// variablesOf maps the names of the struct's fields, which the parser reports,
// to the variables that people set.
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

// form says what a variable of the type has to look like. It does not repeat
// the value: somebody may have mixed two variables up.
func form(t reflect.Type) string {
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
	return "of another form"
}
