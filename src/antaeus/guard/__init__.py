"""The fifth stage: measures, promotes, keeps, rolls back and stops. The only one that may open sealed answers."""
