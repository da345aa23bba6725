/* choices.c - eval --choices: a file of questions through one model or two, and the report. */
#include <math.h>
#include <stdlib.h>

#include "eval/choice.h"
#include "choices.h"

static const char *const KINDS[2] = { "accuracy", "accuracy_normalised" };

static void set_estimate(json_t *document, const char *kind, const char *what, struct vcl_estimate estimate)
{
    char *key = vcl_text("%s%s", kind, what);
    vcl_cli_set_estimate(document, key, estimate);
    free(key);
}

static void report_json(const struct vcl_cli_choices *what, const struct vcl_choice_eval *e)
{
    json_t *document = vcl_json_document("eval");
    vcl_json_set(document, "model", vcl_json_text(what->model));
    vcl_json_set(document, "choices", vcl_json_text(what->file));
    if (what->baseline)
        vcl_json_set(document, "baseline", vcl_json_text(what->baseline));
    vcl_json_set(document, "questions", json_integer((json_int_t)e->questions));
    vcl_json_set(document, "chance", vcl_json_real(e->chance));
    for (int k = 0; k < 2; k++) {
        set_estimate(document, KINDS[k], "", e->accuracy[k]);
        if (!what->baseline)
            continue;
        set_estimate(document, KINDS[k], "_baseline", e->baseline_accuracy[k]);
        set_estimate(document, KINDS[k], "_difference", e->difference[k]);
        set_estimate(document, KINDS[k], "_same", e->same[k]);
    }
    vcl_json_print(document);
}

static void print_share(const char *name, struct vcl_estimate e)
{
    printf("%-18s %.2f", name, 100 * e.mean);
    if (isfinite(e.error))
        printf(" ± %.2f", 100 * e.error);
    printf(" %%\n");
}

static void report_text(const struct vcl_cli_choices *what, const struct vcl_choice_eval *e)
{
    static const char *const names[2] = { "accuracy", "by bytes" };
    for (int k = 0; k < 2; k++) {
        print_share(names[k], e->accuracy[k]);
        if (!what->baseline)
            continue;
        print_share("  of the baseline", e->baseline_accuracy[k]);
        print_share("  difference", e->difference[k]);
        print_share("  same choice", e->same[k]);
    }
    printf("%zu questions, %.2f %% by chance\n", e->questions, 100 * e->chance);
}

static int score(const struct vcl_cli_choices *what, const struct vcl_network *network,
                 const struct vcl_network *baseline, const struct vcl_question *questions, size_t count)
{
    struct vcl_choice_eval result;
    struct vcl_error error = { 0 };
    const size_t models = baseline ? 2 : 1;
    vcl_choice_plan(questions, count, &result);
    vcl_progress_start_tokens("eval", models * result.texts, models * result.tokens);
    const enum vcl_status status =
        vcl_choice_run(network, baseline, questions, count, vcl_cli_on_tokens, NULL, &result, &error);
    vcl_progress_stop();
    if (status == VCL_E_CANCELLED)
        vcl_say("interrupted");
    if (status != VCL_OK)
        return vcl_tell(status, "%s: %s", what->file, error.text);
    if (what->json)
        report_json(what, &result);
    else
        report_text(what, &result);
    return VCL_EXIT_OK;
}

int vcl_cli_eval_choices(const struct vcl_cli_choices *what, const struct vcl_network *network,
                         const struct vcl_network *baseline)
{
    struct vcl_tokenizer *tokenizer;
    struct vcl_question *questions;
    struct vcl_error error = { 0 };
    size_t count, context = network->config.context;
    int code = vcl_cli_tokenizer(what->model, network, &tokenizer);
    if (code)
        return code;
    if (baseline && baseline->config.context < context)
        context = baseline->config.context;
    const enum vcl_status status =
        vcl_questions_read(what->file, tokenizer, context, &questions, &count, &error);
    vcl_cli_note_left_out(what->model, tokenizer);
    vcl_tokenizer_close(tokenizer);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    code = score(what, network, baseline, questions, count);
    vcl_questions_free(questions, count);
    return code;
}
