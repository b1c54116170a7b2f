"""The instrument measures itself: how often the gate is wrong and how early alarms ring, on runs whose outcome is known."""
