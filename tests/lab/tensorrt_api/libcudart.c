/* A stand-in for NVIDIA's libcudart.so: what Polygraphy calls, with the prototypes of cuda_runtime_api.h.

   cc -shared -fPIC -o libcudart.so libcudart.c libcuda.so.1

   As the real one it is a layer over the driver's (libcuda.c), whose one stream and whose memory it has. */
#include <stddef.h>
#include <stdint.h>

typedef struct Stream Stream;
int cuInit(unsigned int);
int cuMemAlloc_v2(uint64_t *, size_t);
int cuMemcpyHtoDAsync_v2(uint64_t, const void *, size_t, Stream *);
int cuMemcpyDtoHAsync_v2(void *, uint64_t, size_t, Stream *);
int cuStreamCreate(Stream **, unsigned int);
int cuStreamSynchronize(Stream *);
enum { HOST_TO_DEVICE = 1, DEVICE_TO_HOST = 2, INVALID_VALUE = 1 };

int cudaStreamCreate(Stream **stream) {
    int error = cuInit(0);
    return error ? error : cuStreamCreate(stream, 0);
}

int cudaStreamSynchronize(Stream *stream) { return cuStreamSynchronize(stream); }

int cudaStreamDestroy(Stream *stream) { return cuStreamSynchronize(stream); }

int cudaMalloc(void **address, size_t size) { return cuMemAlloc_v2((uint64_t *)address, size); }

int cudaFree(void *address) { /* the real one waits for what is still to be done with the memory; here it stays */
    (void)address;
    return 0;
}

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, Stream *stream) {
    if (kind == HOST_TO_DEVICE) return cuMemcpyHtoDAsync_v2((uintptr_t)to, from, size, stream);
    if (kind == DEVICE_TO_HOST) return cuMemcpyDtoHAsync_v2(to, (uintptr_t)from, size, stream);
    return INVALID_VALUE;
}
