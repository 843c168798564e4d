from __future__ import annotations

from docling_serve.subprocess_worker.pool.admission import Admission, AdmitAll, DeviceUse


async def test_without_device_memory_to_share_out_every_job_starts_at_once() -> None:
    admission: Admission = AdmitAll()
    first, second = await admission.admit("ocr"), await admission.admit("ocr")
    for grant in (first, second):
        grant.started("ocr", 41)
        grant.loaded()
        grant.out_of_memory()
        grant.finished(completed=False)
        assert grant.use == DeviceUse(None, None)
        assert await grant.extend("vlm")
        await grant.released()
    admission.close()

    assert first is not second
    assert first.device_uuid is None
    assert (admission.counters.grants, admission.counters.waits) == (2, 0)
