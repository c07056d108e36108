/* Which class is an image of? classify network.secateur image.bin: the image as raw pixels, (channels, height, width). */
#include <secateur.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(void) { return fprintf(stderr, "%s\n", secateur_error()), 1; }

int main(int count, char **arguments) {
    if (count != 3) return fprintf(stderr, "usage: classify network.secateur image.bin\n"), 2;
    secateur_model *model;
    if (secateur_open(arguments[1], NULL, &model) != SECATEUR_OK) return fail();
    const size_t pixels = secateur_input(model, 0)->count, classes = secateur_output(model, 0)->count;
    uint8_t *image = malloc(pixels);
    float *input = malloc(pixels * sizeof *input), *scores = malloc(classes * sizeof *scores);
    FILE *file = fopen(arguments[2], "rb");
    if (!file || fread(image, 1, pixels, file) != pixels)
        return fprintf(stderr, "%s: expected a file of %zu pixels\n", arguments[2], pixels), 1;
    if (secateur_normalise(model, image, input, 1) != SECATEUR_OK) return fail();
    if (secateur_run(model, (const void *[]){input}, (void *[]){scores}, 1) != SECATEUR_OK) return fail();
    size_t best = 0;
    for (size_t i = 1; i < classes; ++i)
        if (scores[i] > scores[best]) best = i;
    const char *name = secateur_class(model, best);
    printf("class %zu%s%s, score %.9g\n", best, name ? ": " : "", name ? name : "", scores[best]);
    fclose(file), free(image), free(input), free(scores), secateur_close(model);
    return 0;
}
