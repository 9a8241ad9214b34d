package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Setting is a variable with the value that is in effect.
type Setting struct {
	Name  string
	Value string // masked for a secret; empty: none
	Set   bool   // the value is not the default
}

// Settings lists the variables of a struct of this package, such as API, in the order of its
// fields. It reads them by reflection, so that it has all of them.
func Settings(c any) []Setting {
	defaults := reflect.New(reflect.TypeOf(c))
	_, _ = parse(defaults.Interface(), nil) // defaults have the right types
	return settingsOf(reflect.ValueOf(c), defaults.Elem())
}

func settingsOf(c, defaults reflect.Value) []Setting {
	var list []Setting
	for i := range c.NumField() {
		field := c.Type().Field(i)
		name := field.Tag.Get("env")
		switch {
		case name != "":
			value := show(c.Field(i))
			list = append(list, Setting{Name: name, Value: value, Set: value != show(defaults.Field(i))})
		case field.Type.Kind() == reflect.Struct:
			list = append(list, settingsOf(c.Field(i), defaults.Field(i))...)
		}
	}
	return list
}

// show formats a value as it is written in the environment.
func show(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil():
		return ""
	case v.Kind() == reflect.Pointer:
		return show(v.Elem())
	case v.Type() == reflect.TypeFor[time.Duration]():
		return shortDuration(v.Interface().(time.Duration))
	case v.Kind() == reflect.Slice:
		parts := make([]string, v.Len())
		for i := range parts {
			parts[i] = show(v.Index(i))
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v.Interface()) // a Secret hides itself
}

// shortDuration leaves out zero minutes and seconds: 3m instead of 3m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
