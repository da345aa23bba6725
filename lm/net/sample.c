/* sample.c - temperature and nucleus (top-p) sampling: Holtzman et al., arXiv 1904.09751. */
#include <math.h>
#include <stdlib.h>

#include "common/mix.h"
#include "sample.h"

struct vcl_candidate {
    double weight; /* relative to the likeliest's */
    uint32_t token;
};

int vcl_sampler_create(struct vcl_sampler *sampler, size_t vocab)
{
    sampler->vocab = vocab;
    sampler->candidates = calloc(vocab, sizeof *sampler->candidates);
    return sampler->candidates != NULL;
}

void vcl_sampler_destroy(struct vcl_sampler *sampler) { free(sampler->candidates); }

/* The upper 53 bits as a number in [0, 1). */
static double draw(uint64_t *state) { return (double)(vcl_mix(*state += VCL_MIX_STEP) >> 11) * 0x1p-53; }

static int by_weight(const void *a, const void *b)
{
    const struct vcl_candidate *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight < y->weight ? 1 : -1;
    return (x->token > y->token) - (x->token < y->token);
}

static uint32_t likeliest(const float *logits, size_t n)
{
    size_t most = 0;
    for (size_t i = 1; i < n; i++)
        if (logits[i] > logits[most])
            most = i;
    return (uint32_t)most;
}

/* Only tokens above e^-30 of the likeliest are worth sorting: the others together are below 2^-20 of it
 * for any vocabulary. */
static size_t list_candidates(struct vcl_sampler *s, const float *logits, double *sum)
{
    const double most = (double)logits[likeliest(logits, s->vocab)];
    size_t count = 0;
    *sum = 0;
    for (size_t i = 0; i < s->vocab; i++) {
        const double x = ((double)logits[i] - most) / s->temperature;
        if (x > -30) {
            s->candidates[count++] = (struct vcl_candidate){ exp(x), (uint32_t)i };
            *sum += exp(x);
        }
    }
    qsort(s->candidates, count, sizeof *s->candidates, by_weight);
    return count;
}

uint32_t vcl_sample(struct vcl_sampler *s, const float *logits)
{
    double sum, kept = 0;
    size_t last = 0;
    if (s->temperature <= 0)
        return likeliest(logits, s->vocab);
    const size_t count = list_candidates(s, logits, &sum);
    if (!count) /* not a number: the model's weights are broken */
        return likeliest(logits, s->vocab);
    for (; last < count && kept < s->top_p * sum; last++)
        kept += s->candidates[last].weight;
    double left = draw(&s->state) * kept;
    for (size_t i = 0; i + 1 < last; i++)
        if ((left -= s->candidates[i].weight) < 0)
            return s->candidates[i].token;
    return s->candidates[last ? last - 1 : 0].token;
}
