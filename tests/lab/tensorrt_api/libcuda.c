/* A stand-in for NVIDIA's libcuda.so.1: what tools/tensorrt/cuda.py calls, with the prototypes of cuda.h.

   cc -shared -fPIC -o libcuda.so.1 libcuda.c

   The GPU's memory is the host's, under addresses that only copies and the stand-in for TensorRT understand.
   A stream does its work when somebody waits for it, not before, so who forgets to wait gets old data.
   TRTEXEC_GPU and TRTEXEC_COMPUTE are the GPU's name (empty: there is none) and compute capability. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALIDATED = 901 };
typedef int CUresult, CUdevice;
typedef uint64_t CUdeviceptr;
typedef void (*Work)(void);
typedef struct { double ms; int blocking; } Event;
typedef struct { void *to; const void *from; size_t size; Work work; Event *event; } Task;
typedef struct { Task *tasks; size_t count, room; } Tasks;
typedef struct { Tasks tasks, graph; int capturing, invalid; } Stream;

static const CUdeviceptr ON_GPU = (CUdeviceptr)1 << 60;
static int initialised;

static const char *setting(const char *name, const char *usual) {
    const char *value = getenv(name);
    return value ? value : usual;
}

static double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static void add(Tasks *tasks, Task task) {
    if (tasks->count == tasks->room) {
        tasks->room = 2 * tasks->room + 16;
        tasks->tasks = realloc(tasks->tasks, tasks->room * sizeof(Task));
    }
    tasks->tasks[tasks->count++] = task;
}

static void carry_out(Tasks *tasks) {
    for (size_t at = 0; at < tasks->count; at++) {
        Task *task = &tasks->tasks[at];
        if (task->size) memcpy(task->to, task->from, task->size);
        if (task->work) task->work();
        if (task->event) task->event->ms = now_ms();
    }
}

static Stream *last; /* there is one stream: who waits for an event waits for it */

static CUresult flush(Stream *stream) {
    if (stream->capturing) { stream->invalid = 1; return INVALIDATED; }
    carry_out(&stream->tasks);
    stream->tasks.count = 0;
    return OK;
}

static CUresult enqueue(Stream *stream, Task task) {
    add(stream->capturing ? &stream->graph : &stream->tasks, task);
    return OK;
}

/* What the stand-in for TensorRT calls. */
CUresult standin_enqueue(Stream *stream, Work work) { return enqueue(stream, (Task){.work = work}); }
int standin_capturing(Stream *stream) { return stream->capturing; }
void *standin_address(CUdeviceptr address) { return address & ON_GPU ? (void *)(address & ~ON_GPU) : NULL; }

CUresult cuInit(unsigned int flags) {
    (void)flags;
    initialised = *setting("TRTEXEC_GPU", "NVIDIA Tegra X2") != 0;
    return initialised ? OK : NO_DEVICE;
}

CUresult cuGetErrorString(CUresult error, const char **text) {
    *text = error == NO_DEVICE ? "no CUDA-capable device is detected" : error == OUT_OF_MEMORY ? "out of memory" : "invalid argument";
    return OK;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) { *device = ordinal; return initialised ? OK : NO_DEVICE; }

CUresult cuDeviceGetName(char *name, int length, CUdevice device) {
    (void)device;
    snprintf(name, length, "%s", setting("TRTEXEC_GPU", "NVIDIA Tegra X2"));
    return OK;
}

CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    (void)device;
    const char *compute = setting("TRTEXEC_COMPUTE", "6.2");
    if (attribute != 75 && attribute != 76) return INVALID_VALUE;
    *value = atoi(attribute == 75 ? compute : strchr(compute, '.') + 1);
    return OK;
}

CUresult cuDevicePrimaryCtxRetain(void **context, CUdevice device) { (void)device; *context = &initialised; return OK; }
CUresult cuCtxSetCurrent(void *context) { return context == &initialised ? OK : INVALID_VALUE; }

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size) {
    *address = (CUdeviceptr)calloc(1, size) | ON_GPU;
    return OK;
}

CUresult cuMemHostAlloc(void **address, size_t size, unsigned int flags) {
    (void)flags;
    *address = calloc(1, size);
    return OK;
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t size, Stream *stream) {
    return to & ON_GPU ? enqueue(stream, (Task){.to = standin_address(to), .from = from, .size = size}) : INVALID_VALUE;
}

CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t size, Stream *stream) {
    return from & ON_GPU ? enqueue(stream, (Task){.to = to, .from = standin_address(from), .size = size}) : INVALID_VALUE;
}

CUresult cuStreamCreate(Stream **stream, unsigned int flags) {
    (void)flags;
    *stream = last = calloc(1, sizeof(Stream));
    return OK;
}

CUresult cuStreamSynchronize(Stream *stream) { return flush(stream); }

CUresult cuEventCreate(Event **event, unsigned int flags) {
    *event = calloc(1, sizeof(Event));
    (*event)->blocking = flags & 1;
    return OK;
}

CUresult cuEventRecord(Event *event, Stream *stream) { return enqueue(stream, (Task){.event = event}); }
CUresult cuEventSynchronize(Event *event) { (void)event; return flush(last); }

CUresult cuEventElapsedTime(float *ms, Event *begin, Event *end) {
    *ms = (float)(end->ms - begin->ms);
    return begin->ms && end->ms ? OK : INVALID_VALUE;
}

CUresult cuStreamBeginCapture_v2(Stream *stream, int mode) {
    if (mode != 1 || stream->capturing) return INVALID_VALUE;
    stream->capturing = 1;
    return OK;
}

CUresult cuStreamEndCapture(Stream *stream, Tasks **graph) {
    stream->capturing = 0;
    *graph = stream->invalid ? NULL : &stream->graph;
    return stream->invalid ? INVALIDATED : OK;
}

CUresult cuGraphInstantiateWithFlags(Tasks **executable, Tasks *graph, unsigned long long flags) {
    *executable = graph;
    return flags ? INVALID_VALUE : OK;
}

CUresult cuGraphLaunch(Tasks *executable, Stream *stream) {
    for (size_t at = 0; at < executable->count; at++) enqueue(stream, executable->tasks[at]);
    return OK;
}
