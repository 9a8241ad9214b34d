package plivosim

import "net/http"

// scenarioTable lists all scenarios. Suffixes 00-09, 23 and 99 are reserved for ordinary
// test numbers.
func scenarioTable() []script {
	var table []script
	table = append(table, outcomes()...)
	table = append(table, refusals()...)
	table = append(table, breakdowns()...)
	table = append(table, lostAnswers()...)
	table = append(table, oddAnswers()...)
	table = append(table, oddReports()...)
	return append(table, smallMediaOnly())
}

func about(suffix string, name Scenario, description string) ScenarioInfo {
	return ScenarioInfo{Name: name, Suffix: suffix, Description: description}
}

func outcomes() []script {
	ends := func(info ScenarioInfo, steps []step) script {
		return script{ScenarioInfo: info, accept: true, answer: queued(), steps: steps}
	}
	lastCredit := ends(about("18", CreditRunsOut, "accepted, then failed with code 900; for 2 minutes every request is refused and queued messages fail too"), failing("900"))
	lastCredit.lastCredit = true
	return []script{
		ends(about("10", Delivered, "accepted, sent and delivered"), delivering()),
		ends(about("11", StaysSent, "accepted and sent; no carrier receipt, as is usual in the US and Canada"), sending()),
		ends(about("12", Undelivered, "accepted and sent, then undelivered with code 80 (recipient temporarily unavailable)"), undelivering("80")),
		ends(about("13", FailedSpam, "accepted, then failed with code 30 (classified as spam)"), failing("30")),
		ends(about("14", FailedMediaTooLarge, "accepted, then failed with code 120 (media too large)"), failing("120")),
		ends(about("15", FailedOptedOut, "accepted, then failed with code 200 (recipient opted out)"), failing("200")),
		ends(about("16", FailedGeoBarred, "accepted, then failed with code 450 (country not allowed for the account)"), failing("450")),
		ends(about("17", FailedExpired, "accepted, then failed with code 420 (expired in Plivo's queue)"), failing("420")),
		lastCredit,
		ends(about("19", StaysQueued, "accepted; stays queued"), nil),
	}
}

func refusals() []script {
	refused := func(info ScenarioInfo, a answer) script { return script{ScenarioInfo: info, answer: a} }
	limited := refusal(http.StatusTooManyRequests, tooManyText)
	once := refused(about("26", RateLimitedOnce, "first request to a recipient refused with 429 and Retry-After, later ones are normal"), limited.with("Retry-After", retryAfterSeconds))
	once.once = true
	return []script{
		refused(about("20", RefusedDestination, "refused with 400: not a valid destination"), refusal(http.StatusBadRequest, "the number is not a valid destination")),
		refused(about("21", RefusedUnauthorized, "refused with 401: wrong credentials"), refusal(http.StatusUnauthorized, unauthorizedText)),
		refused(about("22", RefusedForbidden, "refused with 403: destination not enabled for the account"), refusal(http.StatusForbidden, "permission to send to this region is not enabled")),
		refused(about("24", RefusedNotFound, "refused with 404"), refusal(http.StatusNotFound, "not found")),
		refused(about("25", RefusedCredit, "refused with 400: insufficient credit"), refusal(http.StatusBadRequest, creditText)),
		once,
		refused(about("27", RateLimited, "refused with 429 and Retry-After"), limited.with("Retry-After", retryAfterSeconds)),
		refused(about("28", RateLimitedNoHint, "refused with 429, no Retry-After"), limited),
		refused(about("29", RateLimitedEmptyBody, "refused with 429 and an empty body"), empty(http.StatusTooManyRequests)),
		refused(about("30", RefusedEmptyBody, "refused with 400 and an empty body"), empty(http.StatusBadRequest)),
	}
}

func breakdowns() []script {
	broken := func(info ScenarioInfo, a answer) script { return script{ScenarioInfo: info, answer: a} }
	once := func(info ScenarioInfo, a answer) script { return script{ScenarioInfo: info, answer: a, once: true} }
	failed := refusal(http.StatusInternalServerError, "internal server error")
	unavailable := refusal(http.StatusServiceUnavailable, "service unavailable")
	return []script{
		broken(about("31", ServerError, "500, not accepted"), failed),
		broken(about("32", ServerErrorEmptyBody, "500 with an empty body, not accepted"), empty(http.StatusInternalServerError)),
		once(about("33", ServerErrorOnce, "first request to a recipient answered 500 and not accepted, later ones are normal"), failed),
		broken(about("34", Unavailable, "503, not accepted"), unavailable),
		once(about("35", UnavailableOnce, "first request to a recipient answered 503 and not accepted, later ones are normal"), unavailable),
		broken(about("36", TemporaryFailure, "503 with the plain text \"temporary failure\", not accepted"), raw(http.StatusServiceUnavailable, textType, "temporary failure")),
		broken(about("37", DropBeforeAccept, "connection closed without a response, not accepted"), noAnswer()),
		once(about("38", DropBeforeAcceptOnce, "first request to a recipient: connection closed without a response and not accepted, later ones are normal"), noAnswer()),
		broken(about("39", StallBeforeHeaders, "no response until the client gives up, not accepted"), silence()),
		once(about("40", StallBeforeHeadersOnce, "first request to a recipient: no response until the client gives up and not accepted, later ones are normal"), silence()),
		broken(about("41", StallAfterHeaders, "202 headers, then nothing until the client gives up, not accepted"), queued().over(stalledAfterHeaders)),
		broken(about("42", HugeError, "500 with a body of 1 MiB, not accepted"), answer{status: http.StatusInternalServerError, contentType: textType, body: hugeText}),
		broken(about("43", Redirect301, "redirect 301, not accepted"), redirect(http.StatusMovedPermanently)),
		broken(about("44", Redirect302, "redirect 302, not accepted"), redirect(http.StatusFound)),
		broken(about("45", Redirect307, "redirect 307, which asks the client to repeat the POST, not accepted"), redirect(http.StatusTemporaryRedirect)),
		broken(about("46", EmptyNotAccepted, "202 with an empty body, not accepted"), empty(http.StatusAccepted)),
		broken(about("47", EmptyObjectNotAccepted, "202 with {}, not accepted"), raw(http.StatusAccepted, jsonType, "{}")),
		broken(about("48", CutJSONNotAccepted, "202 with truncated JSON, not accepted"), raw(http.StatusAccepted, jsonType, `{"api_id":"97ceeb52-58b6`)),
		broken(about("49", NoContentNotAccepted, "204, not accepted"), empty(http.StatusNoContent)),
	}
}

func lostAnswers() []script {
	lost := func(info ScenarioInfo, a answer) script {
		return script{ScenarioInfo: info, accept: true, answer: a, steps: delivering()}
	}
	silent := lost(about("57", AcceptThenDropSilently, "accepted, connection closed without a response, and no callbacks: only LIST shows it"), noAnswer())
	silent.reporting = reportNever
	silent500 := lost(about("58", AcceptThen500Silently, "accepted, but answered 500, and no callbacks: only LIST shows it"), refusal(http.StatusInternalServerError, "internal server error"))
	silent500.reporting = reportNever
	return []script{
		lost(about("50", AcceptThen500, "accepted, but answered 500"), refusal(http.StatusInternalServerError, "internal server error")),
		lost(about("51", AcceptThen502, "accepted, but answered 502 with an HTML page"), raw(http.StatusBadGateway, htmlType, "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>")),
		lost(about("52", AcceptThen504, "accepted, but answered 504"), raw(http.StatusGatewayTimeout, htmlType, "<html><body><h1>504 Gateway Time-out</h1></body></html>")),
		lost(about("53", AcceptThenDrop, "accepted, connection closed without a response"), noAnswer()),
		lost(about("54", AcceptThenCut, "accepted, connection closed in the middle of the response"), queued().over(cut)),
		lost(about("55", AcceptThenStall, "accepted, no response until the client gives up"), silence()),
		lost(about("56", AcceptThenStallAfterHeaders, "accepted, 202 headers, then nothing until the client gives up"), queued().over(stalledAfterHeaders)),
		silent,
		silent500,
	}
}

func oddAnswers() []script {
	odd := func(info ScenarioInfo, a answer) script {
		return script{ScenarioInfo: info, accept: true, answer: a, steps: delivering()}
	}
	accepted := func(body func(reply) string) answer {
		return answer{status: http.StatusAccepted, contentType: jsonType, body: body}
	}
	return []script{
		odd(about("60", AcceptedEmpty, "accepted, 202 with an empty body"), empty(http.StatusAccepted)),
		odd(about("61", AcceptedEmptyObject, "accepted, 202 with {}"), raw(http.StatusAccepted, jsonType, "{}")),
		odd(about("62", AcceptedCutJSON, "accepted, 202 with truncated JSON"), accepted(cutJSON)),
		odd(about("63", AcceptedUUIDAsString, "accepted, 202 with message_uuid as a string instead of an array"), accepted(uuidAsString)),
		odd(about("64", AcceptedTwoUUIDs, "accepted once, 202 with two UUIDs, of which the second does not exist"), accepted(twoUUIDs)),
		odd(about("65", AcceptedNoContent, "accepted, 204"), empty(http.StatusNoContent)),
		odd(about("66", AcceptedHuge, "accepted, valid 202 of 1 MiB"), accepted(hugeQueued)),
	}
}

func oddReports() []script {
	odd := func(info ScenarioInfo, r reporting, sg signing) script {
		return script{ScenarioInfo: info, accept: true, answer: queued(), steps: delivering(), reporting: r, signing: sg}
	}
	return []script{
		odd(about("70", CallbackBeforeResponse, "the first callback arrives before the 202"), reportEarly, signV3),
		odd(about("71", CallbacksDuplicated, "every callback is sent twice"), reportTwice, signV3),
		odd(about("72", CallbacksOutOfOrder, "callbacks are sent in reverse order, after the final state"), reportReversed, signV3),
		odd(about("73", CallbacksLost, "no callbacks are sent"), reportNever, signV3),
		odd(about("74", CallbacksLate, "every callback is 10 minutes late"), reportLate, signV3),
		odd(about("75", SignatureWrong, "callbacks are signed with a wrong token"), reportNormally, signWrong),
		odd(about("76", SignatureV2Only, "callbacks have V2 signatures only"), reportNormally, signV2),
		odd(about("77", SignatureBoth, "callbacks have V3 and V2 signatures"), reportNormally, signBoth),
		odd(about("78", SignatureSeveral, "signature headers contain several signatures, comma separated; one is valid"), reportNormally, signSeveral),
		odd(about("79", SignatureSubaccount, "X-Plivo-Signature-V3 is signed with a subaccount's token, the Ma header with the account's"), reportNormally, signSubaccount),
		odd(about("80", SignatureWrongV3RightV2, "V3 signatures are invalid, V2 signatures valid; must be rejected"), reportNormally, signWrongV3RightV2),
	}
}

// smallMedia is the limit of scenario SmallMediaOnly in bytes: between the usual budget of
// a message's pictures and half of it.
const smallMedia = 300_000

func smallMediaOnly() script {
	return script{
		ScenarioInfo: about("81", SmallMediaOnly, "accepted and delivered, unless its media have more than 300,000 bytes in total, as far as the simulator knows them: then failed with code 120"),
		accept:       true, answer: queued(), steps: delivering(), maxMedia: smallMedia,
	}
}
