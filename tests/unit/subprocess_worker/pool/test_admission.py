from __future__ import annotations

from docling_serve.subprocess_worker.pool.admission import Admission, AdmitAll, DeviceUse


async def test_without_device_memory_to_share_out_every_job_starts_at_once() -> None:
    admission: Admission = AdmitAll()
    first, second = await admission.admit("ocr"), await admission.admit("ocr")
    for grant in (first, second):
        admission.running(grant, "ocr", 41)
        admission.loaded(grant)
        admission.out_of_memory(grant)
        admission.finished(grant, completed=False)
        assert admission.use(grant) == DeviceUse(None, None)
        assert await admission.extend(grant, "vlm")
        admission.release(grant)
    admission.close()

    assert first != second
    assert (first.device_uuid, first.booked_bytes) == (None, 0)
    assert (admission.counters.grants, admission.counters.waits) == (2, 0)
