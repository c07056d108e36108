/* Run packed networks (.secateur files) from C, without Python.

   Functions that can fail return a secateur_status, and leave in this thread's secateur_error() what went wrong and what
   to do. Nothing that a file holds makes them crash, hang or ask for memory without end: it is refused with a status.
   Names and texts are UTF-8. What a pointer points to lives as long as the model that it was had from. */
#ifndef SECATEUR_H
#define SECATEUR_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32) && !defined(SECATEUR_STATIC)
#ifdef SECATEUR_BUILDING
#define SECATEUR_API __declspec(dllexport)
#else
#define SECATEUR_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define SECATEUR_API __attribute__((visibility("default")))
#else
#define SECATEUR_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum secateur_status {
    SECATEUR_OK = 0,
    SECATEUR_ERROR_ARGUMENT = 1,    /* what the caller gave makes no sense */
    SECATEUR_ERROR_FILE = 2,        /* the file cannot be opened or read */
    SECATEUR_ERROR_FORMAT = 3,      /* it is damaged, of another version, or asks for more than the limits allow */
    SECATEUR_ERROR_UNSUPPORTED = 4, /* it is a network that only Secateur in Python runs */
    SECATEUR_ERROR_MEMORY = 5,      /* there is not enough */
    SECATEUR_ERROR_RUN = 6          /* a run was stopped, by an index outside of a table for example */
} secateur_status;

/* What arrays hold. */
typedef enum secateur_element {
    SECATEUR_FLOAT32 = 0, /* float */
    SECATEUR_INT64 = 1,   /* int64_t, from -2^24 to 2^24 */
    SECATEUR_INT32 = 2,   /* int32_t, likewise */
    SECATEUR_BOOL = 3     /* uint8_t, 0 or 1 */
} secateur_element;

/* An input or output: C-contiguous, the images first. */
typedef struct secateur_value {
    const char *name;
    secateur_element element;
    size_t rank;          /* of one image */
    const int64_t *shape; /* of one image: rank sizes, -1 where a length is free (see secateur_bind) */
    size_t count;         /* numbers in one image, 0 where a length is free */
} secateur_value;

/* Set what matters to you in what secateur_defaults() gives. */
typedef struct secateur_options {
    int threads;        /* that work on one call, 1 to 1024; results do not depend on it */
    int calibrate;      /* choose kernels by constants timed on this machine (some ten milliseconds for each process),
                           not by those built in: large networks may run faster, and round otherwise from run to run */
    const char *kernel; /* one of secateur_kernel(), NULL for the fastest */
    /* What a file may ask for at most. Networks in use are far below the defaults. */
    int64_t weight_bytes; /* of decoded weights */
    int64_t nodes, inputs, outputs, links, names;
    int64_t multiply_adds, window_elements, memory, growth; /* of one image */
} secateur_options;

typedef struct secateur_model secateur_model;

/* The version of this library, as "1.2.3". */
SECATEUR_API const char *secateur_version(void);

/* What went wrong in the last call of this thread that failed, in one line. Never NULL. */
SECATEUR_API const char *secateur_error(void);

/* The kernels that this processor can run, fastest first; NULL behind the last. */
SECATEUR_API const char *secateur_kernel(size_t index);

SECATEUR_API secateur_options secateur_defaults(void);

/* Read a network. options: NULL for secateur_defaults(). *model: set where it is SECATEUR_OK, else NULL; to be closed. */
SECATEUR_API secateur_status secateur_open(const char *path, const secateur_options *options, secateur_model **model);

/* The same from memory, which is not needed any more afterwards. */
SECATEUR_API secateur_status secateur_open_memory(const void *bytes, size_t size, const secateur_options *options,
                                                  secateur_model **model);

/* NULL is let be. */
SECATEUR_API void secateur_close(secateur_model *model);

SECATEUR_API int secateur_threads(const secateur_model *model);
SECATEUR_API size_t secateur_input_count(const secateur_model *model);
SECATEUR_API size_t secateur_output_count(const secateur_model *model);

/* NULL beyond the last. */
SECATEUR_API const secateur_value *secateur_input(const secateur_model *model, size_t index);
SECATEUR_API const secateur_value *secateur_output(const secateur_model *model, size_t index);

/* Where an input or output of a name stands, -1 where there is none. */
SECATEUR_API int secateur_find_input(const secateur_model *model, const char *name);
SECATEUR_API int secateur_find_output(const secateur_model *model, const char *name);

/* How many images the network takes, 0 for any number. */
SECATEUR_API int64_t secateur_images(const secateur_model *model);

/* The name of a class, NULL beyond the last or where the file names none. */
SECATEUR_API const char *secateur_class(const secateur_model *model, size_t index);

/* The name of a length that is free, NULL beyond the last: such a network is run at lengths, see secateur_bind. The length
   "batch" is the number of images. */
SECATEUR_API const char *secateur_length(const secateur_model *model, size_t index);

/* The same network with lengths for all names that secateur_length() gives, in its order. It shares the weights; both are
   to be closed. */
SECATEUR_API secateur_status secateur_bind(const secateur_model *model, const int64_t *lengths, size_t count,
                                           secateur_model **bound);

/* Run the network. inputs, outputs: an array for each, in their order, of so many images. By several threads at once, too. */
SECATEUR_API secateur_status secateur_run(const secateur_model *model, const void *const *inputs, void *const *outputs,
                                          int64_t images);

/* pixels / 255, normalised as the network's training images were, for its only input (C, H, W).
   SECATEUR_ERROR_UNSUPPORTED where the file does not say how. */
SECATEUR_API secateur_status secateur_normalise(const secateur_model *model, const uint8_t *pixels, float *normalised,
                                                int64_t images);

#ifdef __cplusplus
}
#endif

#endif
